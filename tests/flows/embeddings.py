"""The embeddings of a store, and whether two stores have the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from storage import catalog

Vectors = dict[tuple[str, str], np.ndarray]


def vectors(store: Path) -> Vectors:
    """Every embedding by method and subject. A subject that stands twice in a space is a fault in itself."""
    rows = catalog.query(store, "SELECT method, subject, vector FROM embeddings").rows
    found = {(method, subject): np.array(vector, dtype=np.float32) for method, subject, vector in rows}
    assert len(found) == len(rows), "something is in the store twice"
    return found


def subjects(store: Path) -> set[str]:
    return {subject for _, subject in vectors(store)}


def assert_same(found: Vectors, expected: Vectors, *, atol: float = 0.0) -> None:
    """Bit for bit; or to rounding, where other processes with other threads and another alignment made them."""
    assert found.keys() == expected.keys()
    for key, vector in expected.items():
        np.testing.assert_allclose(found[key], vector, atol=atol, rtol=0, err_msg=str(key))
