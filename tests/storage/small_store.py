"""A store of made-up embeddings, written through the normal writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fute.types import Kind, TaskEmbedding
from fute.unify.frame import Frame
from storage import catalog, folding, schemas
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from tests.storage.test_store import embedding_row, space_row

STAMP_COLUMNS = tuple(field.name for field in schemas.STAMP)
FOLDER = "embeddings/space=s1/kind=model"


def vector(i: int, dim: int = 4) -> np.ndarray:
    return np.random.default_rng(i).standard_normal(dim).astype(np.float32)


def small_frame(tasks: int = 60, dim: int = 4, common: float = 0.3) -> Frame:
    """Of made-up pseudo-tasks with something in common; each model is like its dataset."""
    rng = np.random.default_rng(99)
    datasets = rng.standard_normal((tasks, dim)) + common
    models = datasets + 0.3 * rng.standard_normal((tasks, dim))
    return Frame.of(datasets.astype(np.float32), models.astype(np.float32))


def ranked(*rows: dict[str, Any]) -> pa.Table:
    """Rows of a ranking, without a stamp; null where they say nothing."""
    return pa.Table.from_pylist(list(rows), pa.schema([f for f in schemas.NEIGHBORS if f.name not in STAMP_COLUMNS]))


def write(root: Path, numbers: range, kind: Kind = "model", space: str = "s1") -> Store:
    """One embedding for each number, a file each."""
    return write_into(Store(root), numbers, kind, space)


def write_into(store: Store, numbers: range, kind: Kind = "model", space: str = "s1") -> Store:
    vectors = VectorStore(store)
    vectors.put_space(space_row(space), Stamp())
    for i in numbers:
        vectors.put(embedding_row(f"m{i}", f"e{i:04d}", kind, space), TaskEmbedding(vector(i)), Stamp("run"))
    return store


def fold(store: Store, folder: str = FOLDER, *, min_files: int = 2) -> folding.Folded:
    """Fold a folder, by default the models of space s1."""
    done = folding.fold(store, store.root / folder, min_files=min_files)
    assert done.faults == []
    return done


def fingerprints(root: Path) -> list[str]:
    """As the catalog shows them."""
    return [row[0] for row in catalog.query(root, "SELECT fingerprint FROM embeddings ORDER BY 1").rows]
