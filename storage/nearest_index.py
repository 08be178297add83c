"""An index of the embeddings of one kind in one space, beside the Parquet files, for where there are very many.

    indexes/space=<space>/kind=<kind>/<build>/{vectors.faiss, members.parquet, card.json}

An index is built by the maintenance flow for kinds with many embeddings, and is no part of the record: it may be
deleted at any time. It covers the files that it was built of. Newer files are looked at beside it; when one that it
covers is gone, or the space has another reference by now, it is stale and everything is looked at.

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
import pyarrow.parquet as pq

from fute.errors import StoreError
from fute.types import Floats, Kind
from fute.unify.frame import Reference
from storage.embedding_scan import Scan, best
from storage.files import write_folder, write_parquet
from storage.folding import FOLDED, files_of
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


@dataclass(frozen=True)
class Card:
    """What an index is, and how good.

    Attributes:
        files: of the store, that it was built of.
        reference: version of the space's reference; what was removed from the vectors.
        probes: lists that are looked into for a query: the fewest that gave the wanted recall.
        recall_at_10: share of the true ten nearest that it finds, over `queries` of its own subjects.
    """

    space: str
    kind: str
    rows: int
    dim: int
    files: list[str]
    reference: int
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
    import faiss

    started = time.perf_counter()
    vectors = VectorStore(store)
    folded, reference = vectors.folded(space, kind), vectors.reference(space)
    scan = Scan(files_of(folded.folder).live, kind, reference, folded)
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
                    [file_name(store, path) for path in scan.paths], reference.version, f"faiss {faiss.__version__}",
                    lists, index.nprobe, recall, len(queries), time.perf_counter() - started,
                    (folder / "vectors.faiss").stat().st_size, code_version())  # fmt: skip
        (folder / "card.json").write_text(to_json(asdict(card)) + "\n")

    folder = index_folder(store, space, kind)
    # By time, so that the newest is the last by name.
    build = folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
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
    return card.reference != reference.version or not set(card.files) <= {file_name(store, path) for path in files}


def count_rows(files: Sequence[Path]) -> int:
    """Embeddings in some files; small ones hold one each."""
    return sum(pq.read_metadata(path).num_rows if path.parent.name == FOLDED else 1 for path in files)


def is_due(store: Store, space: str, kind: Kind, files: Sequence[Path], rows: int) -> bool:
    """Whether a new index is worth building: none is there, it is stale, or it leaves a tenth out."""
    found = newest_card(store, space, kind)
    if found is None or is_stale(store, found[1], VectorStore(store).reference(space), files):
        return True
    covered = set(found[1].files)
    newer = count_rows([path for path in files if file_name(store, path) not in covered])
    return newer > NEWER_SHARE * rows


def usable_index(store: Store, space: str, kind: Kind, reference: Reference, files: Sequence[Path]) -> Index | None:
    found = newest_card(store, space, kind) if available() else None
    if found is None or is_stale(store, found[1], reference, files):
        return None
    try:
        return _open(found[0])
    except (OSError, RuntimeError, StoreError):  # damaged, or removed just now: it is only a short cut
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
