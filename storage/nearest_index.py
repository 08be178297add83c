"""An index of the embeddings of one kind in one space, beside the Parquet files, for where there are very many.

    indexes/space=<space>/kind=<kind>/<build>/{vectors.faiss, members.parquet, card.json}

An index is built by the maintenance flow for kinds with many embeddings, and is no part of the record: it may be
deleted at any time. It covers the files that it was built of. Newer files are looked at beside it, and so are subjects
that went back to an earlier version since; when a file that it covers is gone, the space has another reference by now,
or very many subjects went back, it is stale and everything is looked at.

faiss, for two reasons: its inverted file in half precision is built in a stream, in a tenth of the time that a graph
of the same recall took here, and it is read by mapping, so that opening one costs nothing. Its format is its own, and
no pickle.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fute.errors import StoreError
from fute.types import Floats, Kind
from fute.unify.frame import Reference
from storage.embedding_scan import Scan, best
from storage.files import write_folder, write_parquet
from storage.folded_embeddings import FoldedEmbeddings, told_if_damaged
from storage.folding import FOLDED, files_of, while_files_go
from storage.stamp import code_version
from storage.store import Store, to_json
from storage.vectors import VectorStore

INDEX_FROM = 50_000
"""Embeddings of a kind from which an index is built; fewer are looked at in less than half a second."""

WANTED_RECALL = 0.98
QUERIES = 100
ROWS_A_LIST_TO_TRAIN = 50
NEWER_SHARE = 0.1
KEPT_BUILDS = 2  # one may be in use by who has just found it

MOST_READ_AGAIN = 100
"""Rows of covered files that are read one by one beside an index; each costs some ms."""

DAMAGED = (OSError, RuntimeError, pa.ArrowException, StoreError)
"""What reading an index raises whose files are torn or gone."""


@dataclass(frozen=True)
class Card:
    """What an index is, and how good.

    Attributes:
        files: of the store, that it was built of.
        used: times of last use that might change, as they were: of marks and small files, by fingerprint.
        reference: fingerprint of the space's reference; what was removed from the vectors.
        probes: lists that are looked into for a query: the fewest that gave the wanted recall.
        recall_at_10: share of the true ten nearest that it finds, over `queries` of its own subjects.
    """

    space: str
    kind: str
    rows: int
    dim: int
    files: list[str]
    used: dict[str, int]
    reference: str
    library: str
    lists: int
    probes: int
    recall_at_10: float
    queries: int
    seconds: float
    bytes: int
    git_commit: str


@dataclass(frozen=True, eq=False)
class Index:
    """An opened index."""

    card: Card
    members: pa.Table
    vectors: Any


def available() -> bool:
    """Whether the library is installed: the extra fute[index]."""
    return find_spec("faiss") is not None


def build_index(store: Store, space: str, kind: Kind) -> Card:
    """Build the index of one kind in one space from all files that count now, measure its recall, and put it in place.

    Raises:
        StoreError: the library is not installed.
    """
    if not available():
        raise StoreError("an index needs faiss; install fute[index]. Without it everything is found by brute force")
    return while_files_go(lambda: _build(store, space, kind))


def _build(store: Store, space: str, kind: Kind) -> Card:
    import faiss

    started = time.perf_counter()
    vectors = VectorStore(store)
    folded, reference = vectors.folded(space, kind), vectors.reference(space)
    files = files_of(folded.folder)
    used = folded.uses(files.singles)  # first: what is used from now on is taken for used after the building
    scan = Scan(files.live, kind, reference, folded)
    members = scan.kept_members()
    rng = np.random.default_rng(0)
    lists = max(1, min(int(2 * np.sqrt(len(members))), len(members) // ROWS_A_LIST_TO_TRAIN))
    sample = _sample(scan, len(members), rng, lists * ROWS_A_LIST_TO_TRAIN)
    index: Any = faiss.index_factory(sample.shape[1], f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.train(sample)
    for block in scan.kept_blocks():
        index.add(block)
    queries = sample[rng.choice(len(sample), min(QUERIES, len(sample)), replace=False)]
    _, truth = best(scan.kept_blocks(), queries, 10)
    for probes in (2**n for n in range(2, 16)):
        index.nprobe = min(probes, lists)
        _, found = index.search(queries, 10)
        recall = float(
            np.mean([len(set(a) & set(b)) / min(10, len(members)) for a, b in zip(found, truth, strict=True)])
        )
        if recall >= WANTED_RECALL or probes >= lists:
            break

    def write(folder: Path) -> None:
        faiss.write_index(index, str(folder / "vectors.faiss"))
        write_parquet(store.scratch, folder / "members.parquet", members)
        card = Card(space, kind, len(members), sample.shape[1],
                    [file_name(store, path) for path in scan.paths], used, reference.fingerprint,
                    f"faiss {faiss.__version__}", lists, index.nprobe, recall, len(queries),
                    time.perf_counter() - started, (folder / "vectors.faiss").stat().st_size,
                    code_version())  # fmt: skip
        (folder / "card.json").write_text(to_json(asdict(card)) + "\n")

    folder = index_folder(store, space, kind)
    # By time, so that the newest is the last by name; the store's own, which a clock that is set back does not.
    build = folder / f"{store.scratch.now_ns():020d}-{uuid.uuid4().hex[:8]}"
    write_folder(store.scratch, build, write)
    for old in sorted(folder.iterdir())[:-KEPT_BUILDS]:
        shutil.rmtree(old, ignore_errors=True)
    return _read_card(build)


def index_folder(store: Store, space: str, kind: Kind) -> Path:
    return store.root / "indexes" / f"space={space}" / f"kind={kind}"


def newest_card(store: Store, space: str, kind: Kind) -> tuple[Path, Card] | None:
    """The newest build and its card; None where there is none that can be read."""
    folder = index_folder(store, space, kind)
    for build in sorted(folder.iterdir(), reverse=True) if folder.is_dir() else ():
        try:
            return build, _read_card(build)
        except (OSError, ValueError, TypeError):  # of another version, or being removed
            continue
    return None


def is_stale(store: Store, card: Card, reference: Reference, files: Sequence[Path]) -> bool:
    """Whether the index may hold what no longer counts."""
    return card.reference != reference.fingerprint or not set(card.files) <= {file_name(store, path) for path in files}


def newer_files(store: Store, card: Card, files: Sequence[Path]) -> list[Path]:
    """Those that the index does not cover."""
    covered = set(card.files)
    return [path for path in files if file_name(store, path) not in covered]


def used_again(index: Index, folded: FoldedEmbeddings, files: Sequence[Path], newer: pa.Table) -> list[pa.Table] | None:
    """Rows that the index has not, or has but may have to give up, since versions were used again after its building.

    Args:
        files: all that count now.
        newer: members of those that the index does not cover.

    Returns:
        The rows to be looked at beside it, of each subject all versions that may count now; None: they are too many.

    Raises:
        StoreError: a file is damaged.
    """
    later = _used_later(index.card, folded, files) - set(newer["fingerprint"].to_pylist())
    if not later:
        return []
    members = index.members.filter(pc.is_in(index.members["fingerprint"], value_set=pa.array(sorted(later))))
    ours = dict(zip(members["fingerprint"].to_pylist(), members["subject"].to_pylist(), strict=True))
    others = sorted(later - ours.keys())
    if len(others) > MOST_READ_AGAIN:
        return None
    rows = {fingerprint: row for fingerprint in others if (row := folded.row(fingerprint)) is not None}
    gone_back = pa.array([row["subject"][0].as_py() for row in rows.values()], pa.string())
    theirs = index.members.filter(pc.is_in(index.members["subject"], value_set=gone_back))["fingerprint"].to_pylist()
    versions = set(newer["subject"].to_pylist())
    contested = [*theirs, *(fingerprint for fingerprint, subject in ours.items() if subject in versions)]
    if len(rows) + len(contested) > MOST_READ_AGAIN:
        return None
    rows |= {fingerprint: row for fingerprint in contested if (row := folded.row(fingerprint)) is not None}
    return list(rows.values())


def _used_later(card: Card, folded: FoldedEmbeddings, files: Sequence[Path]) -> set[str]:
    """Fingerprints of what was used after the building."""
    now = folded.uses(path for path in files if path.parent.name != FOLDED)
    return {fingerprint for fingerprint, ns in now.items() if ns > card.used.get(fingerprint, 0)}


def count_rows(files: Sequence[Path]) -> int:
    """Embeddings in some files; small ones hold one each. Raises StoreError: a folded one is damaged."""
    rows = 0
    for path in files:
        with told_if_damaged(path):
            rows += pq.read_metadata(path).num_rows if path.parent.name == FOLDED else 1
    return rows


def is_due(store: Store, space: str, kind: Kind, files: Sequence[Path], rows: int) -> bool:
    """Whether a new index is worth building: none is there, it is stale or nearly so, or it leaves a tenth out."""
    found = newest_card(store, space, kind)
    vectors = VectorStore(store)
    if found is None or is_stale(store, found[1], vectors.reference(space), files):
        return True
    build, card = found
    newer = newer_files(store, card, files)
    if count_rows(newer) > NEWER_SHARE * rows:
        return True
    later = _used_later(card, vectors.folded(space, kind), files) - {path.stem for path in newer}
    try:
        known = pq.read_table(build / "members.parquet", columns=["fingerprint"], partitioning=None)["fingerprint"]
    except DAMAGED:
        return True
    gone_back = later - set(known.filter(pc.is_in(known, value_set=pa.array(sorted(later), pa.string()))).to_pylist())
    return len(gone_back) > MOST_READ_AGAIN // 2


def usable_index(store: Store, space: str, kind: Kind, reference: Reference, files: Sequence[Path]) -> Index | None:
    found = newest_card(store, space, kind) if available() else None
    if found is None or is_stale(store, found[1], reference, files):
        return None
    try:
        return _open(found[0])
    except DAMAGED:  # or removed just now: it is only a short cut
        return None


@lru_cache(maxsize=8)
def _open(build: Path) -> Index:
    import faiss

    card = _read_card(build)
    vectors: Any = faiss.read_index(str(build / "vectors.faiss"), faiss.IO_FLAG_MMAP)
    vectors.nprobe = card.probes
    members = pq.read_table(build / "members.parquet", columns=["subject", "fingerprint"], partitioning=None)
    if vectors.ntotal != len(members):
        raise StoreError(f"{build}: {vectors.ntotal} vectors, but {len(members)} names")
    return Index(card, members.combine_chunks(), vectors)


def search(index: Index, query: Floats, k: int) -> list[tuple[str, float]]:
    scores, rows = index.vectors.search(np.ascontiguousarray(query[None]), min(k, index.card.rows))
    return [(index.members["subject"][int(row)].as_py(), float(score))
            for score, row in zip(scores[0], rows[0], strict=True) if row >= 0]  # fmt: skip


def _read_card(build: Path) -> Card:
    return Card(**json.loads((build / "card.json").read_text()))


def file_name(store: Store, path: Path) -> str:
    """As an index's card names a file: its path below the store."""
    return path.relative_to(store.root).as_posix()


def _sample(scan: Scan, rows: int, rng: np.random.Generator, size: int) -> Floats:
    chosen = np.zeros(rows, bool)
    chosen[rng.choice(rows, min(size, rows), replace=False)] = True
    parts, done = [], 0
    for block in scan.kept_blocks():
        parts.append(block[chosen[done : done + len(block)]])
        done += len(block)
    return np.concatenate(parts)
