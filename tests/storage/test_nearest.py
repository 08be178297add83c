"""The nearest subjects and near duplicates against plain arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fute.errors import NotInStoreError
from fute.types import TaskEmbedding
from fute.unify.frame import GroupReference, Reference
from storage import nearest as module
from storage.nearest import near_duplicates, nearest
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from tests.storage.small_store import fold, vector, write
from tests.storage.test_store import space_row


def plain(mean: np.ndarray | float = 0.0) -> np.ndarray:
    moved = np.stack([vector(i) for i in range(30)]) - mean
    unit = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(module, "BLOCK", 7)
    store = write(tmp_path, range(30))
    fold(store)
    return write(tmp_path, range(28, 30), kind="dataset")


@pytest.mark.parametrize("referenced", [False, True])
def test_nearest_finds_what_plain_arithmetic_finds(store: Store, referenced: bool) -> None:
    mean = np.full(4, 0.3, np.float32) if referenced else 0.0
    if referenced:
        VectorStore(store).put_reference("s1", Reference(1, {"model": GroupReference(np.asarray(mean))}), Stamp())
    scores = plain(mean)[17]
    expected = [i for i in np.argsort(-scores) if i != 17][:10]
    rows = nearest(store, "m17", 10)
    models = [row for row in rows if row["candidate_kind"] == "model"]
    assert [row["candidate"] for row in models] == [f"m{i}" for i in expected]
    assert [row["score"] for row in models] == pytest.approx(scores[expected], abs=1e-6)
    assert [row["rank"] for row in models] == list(range(1, 11))
    datasets = [row["candidate"] for row in rows if row["candidate_kind"] == "dataset"]
    assert datasets == [f"m{i}" for i in sorted((28, 29), key=lambda i: -scores[i])]
    assert {(row["space"], row["method"], row["reference"]) for row in rows} == {
        ("s1", "crosscov", "v1, datasets borrow the models'" if referenced else "none")
    }


def test_near_duplicates_are_the_pairs_above_the_threshold(store: Store) -> None:
    scores = plain()
    pairs = {tuple(sorted((f"m{i}", f"m{j}"))) for i, j in np.argwhere(np.triu(scores, 1) >= 0.8)}
    found = near_duplicates(store, "s1", 0.8)
    assert {(a, b) for a, b, _ in found} == pairs
    assert len(found) == len(pairs) > 5
    assert [score for *_, score in found] == sorted((score for *_, score in found), reverse=True)
    assert near_duplicates(store, "s1", 2.0) == near_duplicates(store, "nowhere", 0.0) == []


def test_a_subject_is_looked_for_in_every_space_and_its_absence_is_told(store: Store) -> None:
    vectors = VectorStore(store)
    vectors.put_space(space_row("s2"), Stamp())
    assert {row["space"] for row in nearest(store, "m1")} == {"s1"}
    row = {**space_row("s2"), "kind": "model", "fingerprint": "x", "subject": "m1", "subject_fingerprint": "1"}
    vectors.put(row, TaskEmbedding(vector(1)), Stamp())
    assert {row["space"] for row in nearest(store, "m1")} == {"s1"}  # alone in s2
    with pytest.raises(NotInStoreError, match="no embedding of 'nobody'"):
        nearest(store, "nobody")
    with pytest.raises(NotInStoreError, match="no space s3"):
        nearest(store, "m1", space="s3")
