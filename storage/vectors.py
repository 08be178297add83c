"""Spaces, embeddings, reference means and neighbours in the store."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from fute.errors import StoreError
from fute.types import Floats, Kind, TaskEmbedding
from fute.unify.frame import NO_REFERENCE, GroupReference, Reference, Subject
from storage import schemas
from storage.files import read_parquet, set_time, write_parquet
from storage.folded_embeddings import USED, FoldedEmbeddings, group_rows
from storage.folding import FOLDED, PARQUET, files_of, while_files_go
from storage.paged import Paged
from storage.schema_version import mark_current
from storage.stamp import Stamp
from storage.store import Store, card, slug, to_json

STAMP_COLUMNS = tuple(field.name for field in schemas.STAMP)


@dataclass(frozen=True, eq=False)
class StoredEmbedding:
    """An embedding and what stands beside it."""

    row: Mapping[str, Any]
    vector: Floats

    @property
    def subject(self) -> str:
        return self.row["subject"]

    @property
    def kind(self) -> Kind:
        return self.row["kind"]

    @property
    def fingerprint(self) -> str:
        return self.row["fingerprint"]

    @property
    def group(self) -> Subject:
        """What decides which reference fits: its kind, and a model's make."""
        return Subject(self.kind, self.row["subject_kind"] if self.kind == "model" else "")


class VectorStore:
    """The part of a store that holds vectors."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = store.root

    # -------------------------------------------------------------------------------------------------- spaces

    def put_space(self, row: Mapping[str, Any], stamp: Stamp) -> None:
        path = self.root / "spaces" / f"{row['space']}.parquet"
        if not path.is_file():
            write_parquet(self.store.scratch, path, card(schemas.SPACES, row, stamp))

    def spaces(self) -> list[dict[str, Any]]:
        return [read_parquet(p).to_pylist()[0] for p in sorted((self.root / "spaces").glob("*.parquet"))]

    # ---------------------------------------------------------------------------------------------- embeddings

    def path(self, space: str, kind: Kind, fingerprint: str) -> Path:
        return self.root / "embeddings" / f"space={slug(space)}" / f"kind={kind}" / f"{slug(fingerprint)}.parquet"

    def folded(self, space: str, kind: Kind) -> FoldedEmbeddings:
        return FoldedEmbeddings(self.root / "embeddings" / f"space={space}" / f"kind={kind}", self.store.scratch)

    def has(self, space: str, kind: Kind, fingerprint: str) -> bool:
        # The small file first: it is removed only after its folded one is there.
        return self.path(space, kind, fingerprint).is_file() or self.folded(space, kind).has(fingerprint)

    def put(self, row: Mapping[str, Any], embedding: TaskEmbedding, stamp: Stamp) -> None:
        """Write one embedding. A fingerprint that is there already is left as it is.

        Raises:
            StoreError: the vector is zero or not finite (a cosine with it would be NaN).
        """
        table = _table([row], [embedding], stamp)
        if not self.has(row["space"], row["kind"], row["fingerprint"]):
            write_parquet(self.store.scratch, self.path(row["space"], row["kind"], row["fingerprint"]), table)

    def put_many(self, rows: Sequence[Mapping[str, Any]], embeddings: Sequence[TaskEmbedding], stamp: Stamp) -> None:
        """Write many embeddings of one space and kind as one folded file; those that are there already are left out.

        Raises:
            StoreError: they are of several spaces or kinds, or a vector is zero or not finite. Nothing is written.
        """
        if not rows:
            return
        places = {(row["space"], row["kind"]) for row in rows}
        if len(places) > 1:
            raise StoreError(f"{len(places)} spaces and kinds at once ({sorted(places)[:2]} ...); put each apart")
        ((space, kind),) = places
        folded = self.folded(space, kind)
        known = folded.known(pa.array([row["fingerprint"] for row in rows]))
        new = {
            row["fingerprint"]: (row, embedding)
            for row, embedding in zip(rows, embeddings, strict=True)
            if row["fingerprint"] not in known
        }
        if not new:
            return
        mark_current(self.root)
        ordered = [new[key] for key in sorted(new)]
        table = _table([row for row, _ in ordered], [embedding for _, embedding in ordered], stamp)
        table = table.append_column(USED, pa.array([self.store.scratch.now_ns()] * len(table), pa.int64()))
        path = folded.folder / FOLDED / f"{uuid.uuid4().hex}{PARQUET}"
        write_parquet(self.store.scratch, path, table, row_group_size=group_rows(table))

    def get(self, space: str, kind: Kind, fingerprint: str) -> StoredEmbedding:
        path = self.path(space, kind, fingerprint)
        try:
            table = read_parquet(path)
        except FileNotFoundError:
            folded = self.folded(space, kind).get(fingerprint)
            if folded is None:
                raise
            table = folded
        return next(_stored(table))

    def touch(self, space: str, kind: Kind, fingerprint: str) -> None:
        """Mark an embedding as the one in use: a subject that went back to an earlier version counts as that one."""
        folded = self.folded(space, kind)
        now = self.store.scratch.now_ns()
        # On object storage only a mark tells it: sent again, a small file would be back where another machine has
        # folded and deleted it meanwhile.
        timed = self.store.mirror is None and set_time(self.path(space, kind, fingerprint), now)
        if not timed or folded.has(fingerprint):  # a folded one's small file may be about to be removed with its time
            folded.use(fingerprint, now)

    def population(self, space: str) -> list[StoredEmbedding]:
        """The embedding of each subject of a space that was made or used last, in the order of kind and subject.

        Their vectors lie in a temporary file, so that memory does not grow with the population.
        """
        place = Paged(self.store.scratch.root)
        found: dict[tuple[str, str], tuple[tuple[int, str], StoredEmbedding]] = {}
        for kind in get_args(Kind):
            for used_ns, embedding in self._all_of(space, kind, place):
                key, order = (embedding.kind, embedding.subject), (used_ns, embedding.fingerprint)
                if key not in found or order > found[key][0]:
                    found[key] = order, embedding
        return [found[key][1] for key in sorted(found)]

    def _all_of(self, space: str, kind: Kind, place: Paged) -> list[tuple[int, StoredEmbedding]]:
        """Every embedding with its time of last use."""
        folded = self.folded(space, kind)

        def look() -> list[tuple[int, StoredEmbedding]]:
            marks = folded.marks()
            files = files_of(folded.folder)
            found: list[tuple[int, StoredEmbedding]] = []
            for path in files.singles:
                changed_ns = path.stat().st_mtime_ns
                found += [(max(changed_ns, marks.get(e.fingerprint, 0)), e) for e in _stored(read_parquet(path), place)]
            for path in files.parts:
                table = read_parquet(path)
                used = table[USED].to_pylist() if USED in table.column_names else [0] * len(table)
                found += [(max(ns, marks.get(e.fingerprint, 0)), e)
                          for ns, e in zip(used, _stored(table, place), strict=True)]  # fmt: skip
            return found

        return while_files_go(look)

    # ---------------------------------------------------------------------------------- reference means, neighbours

    def put_reference(self, space: str, reference: Reference, stamp: Stamp) -> None:
        """Write a new version. One that is there already is left as it is, for rankings refer to it by number."""
        path = self.root / "references" / f"space={space}" / f"{reference.version:06d}.parquet"
        if path.is_file():
            return
        rows = [
            card(
                schemas.REFERENCES,
                {
                    "space": space,
                    "version": reference.version,
                    "subject_group": name,
                    "members": list(group.members),
                    "mean": group.mean,
                    "mixing": None if group.mixing is None else group.mixing.ravel(),
                },
                stamp,
            )
            for name, group in sorted(reference.groups.items())
        ]
        write_parquet(self.store.scratch, path, pa.concat_tables(rows))

    def reference(self, space: str) -> Reference:
        """The newest reference of a space; version 0, empty, when there is none."""
        files = sorted((self.root / "references" / f"space={space}").glob("*.parquet"))
        if not files:
            return NO_REFERENCE
        table = read_parquet(files[-1])
        means, mixings = table["mean"].combine_chunks(), table["mixing"].combine_chunks()
        groups = {}
        for i, row in enumerate(table.select(["subject_group", "members"]).to_pylist()):
            mixing = mixings[i].values
            groups[row["subject_group"]] = GroupReference(
                means[i].values.to_numpy(),
                None if mixing is None else _square(mixing.to_numpy()),
                tuple(row["members"]),
            )
        return Reference(table["version"][0].as_py(), groups)

    def refresh_neighbors(self, space: str, fingerprint: str) -> bool:
        """Whether this very unification is stored; if so it counts as the newest one from now on."""
        path = self.root / "neighbors" / f"space={space}" / f"{fingerprint}.parquet"
        if not path.is_file():
            return False
        stored = self.neighbors(space)
        table = read_parquet(path)
        if stored and stored[0]["created_at"] != table["created_at"][0].as_py():
            stamp = Stamp(table["run_id"][0].as_py(), table["flow_run_id"][0].as_py())
            self.put_neighbors(space, fingerprint, table.drop_columns(list(STAMP_COLUMNS)), stamp)
        return True

    def put_neighbors(self, space: str, fingerprint: str, rows: pa.Table, stamp: Stamp) -> None:
        columns = {name: rows[name] for name in rows.column_names}
        columns.update(stamp.columns(len(rows)))
        # The ranking with the latest time is the one that counts, also when the clock has gone back.
        now_us = self.store.scratch.now_ns() // 1000
        columns["created_at"] = pa.array([now_us] * len(rows), pa.int64()).cast(schemas.UTC)
        table = pa.table({name: columns[name] for name in schemas.NEIGHBORS.names}).cast(schemas.NEIGHBORS)
        path = self.root / "neighbors" / f"space={space}" / f"{fingerprint}.parquet"
        write_parquet(self.store.scratch, path, table)

    def neighbors(self, space: str) -> list[dict[str, Any]]:
        """The rows of the last unification of a space, best first within each query and kind."""
        files = list((self.root / "neighbors" / f"space={space}").glob("*.parquet"))
        times = {path: read_parquet(path, ["created_at"])["created_at"] for path in files}
        written = {path: time[0].as_py() for path, time in times.items() if len(time)}
        if not written:
            return []
        return (
            read_parquet(max(written, key=written.__getitem__))
            .sort_by([("query", "ascending"), ("candidate_kind", "ascending"), ("rank", "ascending")])
            .to_pylist()
        )


def _table(rows: Sequence[Mapping[str, Any]], embeddings: Sequence[TaskEmbedding], stamp: Stamp) -> pa.Table:
    """Embeddings of one length as a table.

    Raises:
        StoreError: a vector is zero or not finite.
    """
    vectors = [np.ascontiguousarray(embedding.vector, dtype=np.float32) for embedding in embeddings]
    norms = [float(np.linalg.norm(vector)) for vector in vectors]
    for row, vector, norm in zip(rows, vectors, norms, strict=True):
        if vector.ndim != 1 or not np.isfinite(norm) or norm == 0:
            raise StoreError(
                f"the embedding of {row['subject']} is {'zero' if norm == 0 else 'not finite'}, and would compare "
                "as NaN; look at the subject's outputs or labels"
            )
    dim = len(vectors[0])
    schema = schemas.embeddings(dim)
    columns = {name: pa.array([row.get(name) for row in rows], schema.field(name).type)
               for name in schema.names if name != "vector"}  # fmt: skip
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(vectors)), dim)
    columns["dim"] = pa.array([dim] * len(rows), pa.int32())
    columns["norm"] = pa.array(norms, pa.float32())
    columns["metrics"] = pa.array([to_json(dict(embedding.metrics)) for embedding in embeddings])
    columns.update(stamp.columns(len(rows)))
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _stored(table: pa.Table, place: Paged | None = None) -> Iterator[StoredEmbedding]:
    rows = table.drop_columns(["vector", *({USED} & set(table.column_names))]).to_pylist()
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    for row, vector in zip(rows, vectors, strict=True):
        own = vector.astype(np.float32)
        yield StoredEmbedding(row, own if place is None else place.keep(own))


def _square(flat: Floats) -> Floats:
    side = int(len(flat) ** 0.5)
    return flat.reshape(side, side)
