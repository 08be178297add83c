"""The nearest subjects and near duplicates against plain arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fute.errors import NotInStoreError, StoreError
from fute.types import TaskEmbedding
from fute.unify.frame import verdict
from storage import catalog
from storage import nearest as module
from storage.accuracies import put_accuracies
from storage.nearest import near_duplicates, nearest
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from tests.storage.small_store import fold, ranked, small_frame, vector, write
from tests.storage.test_store import embedding_row, space_row


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


@pytest.mark.parametrize("framed", [False, True])
def test_without_a_ranking_the_nearest_are_those_of_the_highest_cosine(store: Store, framed: bool) -> None:
    if framed:
        VectorStore(store).put_frame("s1", small_frame(), Stamp())
    cosines = plain(small_frame().mean if framed else 0.0)[17]
    expected = [i for i in np.argsort(-cosines) if i != 17][:10]
    rows = nearest(store, "m17", 10)
    models = [row for row in rows if row["candidate_kind"] == "model"]
    assert [row["candidate"] for row in models] == [f"m{i}" for i in expected]
    assert [row["similarity"] for row in models] == pytest.approx(cosines[expected], abs=1e-6)
    assert [row["rank"] for row in models] == list(range(1, 11))
    datasets = [row["candidate"] for row in rows if row["candidate_kind"] == "dataset"]
    assert datasets == [f"m{i}" for i in sorted((28, 29), key=lambda i: -cosines[i])]
    assert {(row["space"], row["method"]) for row in rows} == {("s1", "crosscov")}
    assert {(row["score"], row["p_value"], row["verdict"]) for row in rows} == {(None, None, None)}


def test_the_nearest_are_those_of_the_highest_score_and_newcomers_come_last(store: Store) -> None:
    vectors, frame = VectorStore(store), small_frame()
    vectors.put_frame("s1", frame, Stamp())
    population = vectors.population("s1")
    placed = frame.place([e.vector for e in population])
    chance = frame.chance(placed)
    vectors.put_ranking("s1", "r", ranked(), population, chance, Stamp())
    cosines = placed @ placed.T
    scores = chance.scores(cosines, [e.kind for e in population])
    vectors.put(embedding_row("late", "late"), TaskEmbedding(vector(17)), Stamp())  # the very vector of m17
    own = next(i for i, e in enumerate(population) if (e.kind, e.subject) == ("model", "m17"))
    rows = nearest(store, "m17", 100)
    for kind, late in (("dataset", 0), ("model", 1)):
        here = [i for i, e in enumerate(population) if e.kind == kind and i != own]
        expected = sorted(here, key=lambda i: -scores[own, i])
        found = [row for row in rows if row["candidate_kind"] == kind]
        assert [row["candidate"] for row in found[: len(expected)]] == [population[i].subject for i in expected]
        assert [row["rank"] for row in found] == list(range(1, len(expected) + late + 1))
        for row, i in zip(found, expected, strict=False):
            assert row["score"] == pytest.approx(max(0, scores[own, i]), abs=1e-6)
            assert row["similarity"] == pytest.approx(cosines[own, i], abs=1e-6)
            p = frame.nulls["model", kind].p_value(scores[own, i], len(found))
            assert row["p_value"] == pytest.approx(p, rel=1e-6)
            assert row["verdict"] == verdict(p)
    assert (rows[-1]["candidate"], rows[-1]["score"], rows[-1]["verdict"]) == ("late", None, None)
    assert rows[-1]["similarity"] == pytest.approx(1.0, abs=1e-6)


def test_near_duplicates_are_the_pairs_above_the_threshold(store: Store) -> None:
    scores = plain()
    pairs = {tuple(sorted((f"m{i}", f"m{j}"))) for i, j in np.argwhere(np.triu(scores, 1) >= 0.8)}
    found = near_duplicates(store, "s1", 0.8)
    assert {(a, b) for a, b, _ in found} == pairs
    assert len(found) == len(pairs) > 5
    assert [score for *_, score in found] == sorted((score for *_, score in found), reverse=True)
    assert near_duplicates(store, "s1", 2.0) == []
    with pytest.raises(NotInStoreError, match=r"no space s10 in .*; did you mean 's1'\?"):
        near_duplicates(store, "s10", 0.0)


def test_a_subject_is_looked_for_in_every_space_and_its_absence_is_told(store: Store) -> None:
    vectors = VectorStore(store)
    vectors.put_space(space_row("s2"), Stamp())
    assert {row["space"] for row in nearest(store, "m1")} == {"s1"}
    row = {**space_row("s2"), "kind": "model", "fingerprint": "x", "subject": "m1", "subject_fingerprint": "1"}
    vectors.put(row, TaskEmbedding(vector(1)), Stamp())
    assert {row["space"] for row in nearest(store, "m1")} == {"s1"}  # alone in s2
    with pytest.raises(NotInStoreError, match="no embedding of 'nobody' in .*; `fute ls embeddings` lists"):
        nearest(store, "nobody")
    with pytest.raises(NotInStoreError, match=r"no embedding of 'M-1' in .*; did you mean 'm1'\?"):
        nearest(store, "M-1")
    with pytest.raises(NotInStoreError, match="no space s3"):
        nearest(store, "m1", space="s3")


def test_a_name_of_both_kinds_is_asked_for_by_its_kind(store: Store) -> None:
    for kind in ("dataset", "model"):
        rows = nearest(store, "m28", 3, kind=kind)
        assert "m28" not in {row["candidate"] for row in rows if row["candidate_kind"] == kind}  # that is itself
        assert "m28" in {row["candidate"] for row in rows if row["candidate_kind"] != kind}
    with pytest.raises(
        StoreError, match="are called 'm28'; say which with --kind .* candidates of both kinds are shown"
    ):
        nearest(store, "m28")
    with pytest.raises(
        NotInStoreError, match="no embedding of 'm17' as a dataset, only as a model; .* says what it is"
    ):
        nearest(store, "m17", kind="dataset")


def test_how_often_a_model_is_right_on_a_dataset_stands_beside_either(store: Store) -> None:
    vectors = VectorStore(store)
    whole = {"query": "m17", "query_kind": "model", "candidate": "m28", "candidate_kind": "dataset", "rank": 1}
    turned = {"query": "m28", "query_kind": "dataset", "candidate": "m17", "candidate_kind": "model", "rank": 1}
    models = {"query": "m17", "query_kind": "model", "candidate": "m28", "candidate_kind": "model", "rank": 1}
    rows = ranked(*({"space": "s1", **row} for row in (whole, turned, models)))
    vectors.put_ranking("s1", "r", rows, vectors.population("s1"), None, Stamp())
    told = {"expected_accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95}
    put_accuracies(store, vectors.space("s1"), [{"dataset": "m28@of-m28", "model": "m17@of-m17", **told}], Stamp())
    for near, other in (
        (nearest(store, "m17", 100), ("dataset", "m28")),
        (nearest(store, "m28", 100, kind="dataset"), ("model", "m17")),
    ):
        known = [(row["candidate_kind"], row["candidate"]) for row in near if row["expected_accuracy"] is not None]
        assert known == [other]
    query = "SELECT query, candidate, expected_accuracy FROM neighbors WHERE accuracy_low IS NOT NULL ORDER BY 1"
    assert catalog.query(store.root, query).rows == [("m17", "m28", 0.9), ("m28", "m17", 0.9)]


def test_macros_say_of_which_kind_a_name_of_both_is(store: Store) -> None:
    found = catalog.query(store.root, "SELECT kind_a, kind_b, raw_cosine FROM compare('m1', 'm28') ORDER BY ALL").rows
    assert [kinds for *kinds, _ in found] == [["model", "dataset"], ["model", "model"]]
    assert [cosine for *_, cosine in found] == pytest.approx([plain()[1, 28]] * 2, abs=1e-6)
    query = "SELECT query_kind, kind, raw_cosine FROM most_similar('m28', k := 100) WHERE subject = 'm28' ORDER BY ALL"
    assert [row[:2] for row in catalog.query(store.root, query).rows] == [("dataset", "model"), ("model", "dataset")]
