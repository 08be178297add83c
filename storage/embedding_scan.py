"""All embeddings of one kind in one space, looked at in a stream: the newest of each subject, in the space's frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fute.types import Floats, Kind
from fute.unify.frame import Reference, Subject, unify
from storage.folded_embeddings import USED, FoldedEmbeddings, told_if_damaged
from storage.folding import FOLDED

MEMBERS = pa.schema(
    [
        pa.field("subject", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("subject_kind", pa.string()),
        pa.field(USED, pa.int64()),
    ]
)


class Scan:
    """Some files of one folder of embeddings.

    Args:
        rows: more embeddings, of other files, with their columns.

    Attributes:
        members: (n rows) whose embeddings they are.
        kept: (n,) which of them are their subject's newest; the others do not count.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        kind: Kind,
        reference: Reference,
        folded: FoldedEmbeddings,
        rows: Sequence[pa.Table] = (),
    ) -> None:
        self.paths, self.kind, self.reference, self.rows = paths, kind, reference, rows
        tables = [*map(_members, paths), *(row.select(MEMBERS.names).cast(MEMBERS) for row in rows)]
        self.members = _with_marks(pa.concat_tables([MEMBERS.empty_table(), *tables]), folded.marks())
        self.kept = newest_rows(self.members)

    def blocks(self) -> Iterator[Floats]:
        """The vectors in the space's frame, (n, dim) at a time, in the order of `members`."""
        for path in self.paths:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=["vector", "subject_kind"])
                    yield in_frame(table, self.kind, self.reference)
        for row in self.rows:
            yield in_frame(row, self.kind, self.reference)

    def kept_blocks(self) -> Iterator[Floats]:
        """The same without those that do not count."""
        done = 0
        for block in self.blocks():
            yield block[self.kept[done : done + len(block)]]
            done += len(block)

    def kept_members(self) -> pa.Table:
        return self.members.filter(pa.array(self.kept)).combine_chunks()

    def fingerprint_of(self, subject: str) -> str | None:
        """Of the embedding of a subject that counts."""
        if not len(self.members):
            return None
        found = pc.equal(self.members["subject"], subject).to_numpy(zero_copy_only=False).astype(bool)
        rows = np.flatnonzero(found & self.kept)
        return self.members["fingerprint"][int(rows[0])].as_py() if len(rows) else None


def _members(path: Path) -> pa.Table:
    with told_if_damaged(path):
        present = pq.read_schema(path).names
        table = pq.read_table(path, columns=[name for name in MEMBERS.names if name in present], partitioning=None)
    if USED not in present:
        used = 0 if path.parent.name == FOLDED else path.stat().st_mtime_ns
        table = table.append_column(USED, pa.array([used] * len(table), pa.int64()))
    return table.select(MEMBERS.names).cast(MEMBERS)


def _with_marks(members: pa.Table, marks: dict[str, int]) -> pa.Table:
    """With the later times of last use."""
    if not marks:
        return members
    used = [max(ns, marks.get(fingerprint, 0)) for fingerprint, ns in
            zip(members["fingerprint"].to_pylist(), members[USED].to_pylist(), strict=True)]  # fmt: skip
    return members.set_column(MEMBERS.get_field_index(USED), USED, pa.array(used, pa.int64()))


def in_frame(table: pa.Table, kind: Kind, reference: Reference) -> Floats:
    """(n, dim) vectors of unit length with the reference removed, as unification does it."""
    column = table["vector"].combine_chunks()
    vectors = column.flatten().to_numpy().reshape(len(table), -1)
    if not reference.groups:  # nothing to remove, and for a million rows a loop costs
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32, copy=False)
    makes = table["subject_kind"].to_pylist()
    return unify(vectors, [Subject(kind, make if kind == "model" else "") for make in makes], reference)


def newest_rows(members: pa.Table) -> NDArray[np.bool_]:
    """(n,) which rows are the embedding of their subject that was made or used last."""
    kept = np.ones(len(members), bool)
    codes = members["subject"].combine_chunks().dictionary_encode() if len(members) else None
    if codes is None or len(codes.dictionary) == len(members):
        return kept
    subjects = codes.indices.to_numpy()
    fingerprints = members["fingerprint"].combine_chunks().dictionary_encode()
    by_name = np.argsort(np.argsort(fingerprints.dictionary.to_numpy(zero_copy_only=False)))
    order = np.lexsort((by_name[fingerprints.indices.to_numpy()], members[USED].to_numpy(), subjects))
    last = np.append(np.diff(subjects[order]) != 0, True)
    kept[:] = False
    kept[order[last]] = True
    return kept


def best(blocks: Iterable[Floats], queries: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
    """The k best rows for each query, by dot product, best first; -1 where there are fewer.

    Args:
        blocks: (n, dim) at a time.
        queries: (q, dim).

    Returns:
        (q, k) scores and (q, k) row numbers over all blocks.
    """
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    done = 0
    for block in blocks:
        own = queries @ block.T  # (q, n)
        every = np.concatenate([scores, own], axis=1)
        numbers = np.concatenate([rows, np.broadcast_to(np.arange(done, done + len(block)), own.shape)], axis=1)
        top = np.argsort(-every, axis=1, kind="stable")[:, :k] if every.shape[1] < 64 else _top(every, k)
        scores, rows = np.take_along_axis(every, top, 1), np.take_along_axis(numbers, top, 1)
        done += len(block)
    rows[np.isneginf(scores)] = -1
    return scores, rows


def _top(scores: Floats, k: int) -> NDArray[np.int64]:
    part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, part, 1), axis=1, kind="stable")
    return np.take_along_axis(part, order, 1)
