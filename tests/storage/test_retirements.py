"""Retired subjects: in no ranking, whoever reads it; brought back by a run that embeds them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fute.errors import NotInStoreError, StoreError
from storage import catalog, stamp
from storage.listing import subjects_named
from storage.nearest import nearest
from storage.retirements import bring_back, retire, retired
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from tests.storage.small_store import ranked, small_frame, write

M0, M1 = ("model", "m0"), ("model", "m1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three models, each ranked against the two others."""
    store = write(tmp_path, range(3))
    vectors = VectorStore(store)
    vectors.put_frame("s1", small_frame(), Stamp())
    population = vectors.population("s1")
    rows = [
        {"space": "s1", "query": a, "query_kind": "model", "candidate": b, "candidate_kind": "model", "rank": 1}
        for a in ("m0", "m1", "m2")
        for b in ("m0", "m1", "m2")
        if a != b
    ]
    chance = small_frame().chance(small_frame().place([e.vector for e in population]))
    vectors.put_ranking("s1", "first", ranked(*rows), population, chance, Stamp())
    return store


def seen(store: Store) -> list[set[str]]:
    """Who is there: in the population, the ranking, the views, the search of now, and the vectors in SQL."""
    vectors = VectorStore(store)
    rows = vectors.neighbors("s1")
    sql = "SELECT query FROM neighbors UNION SELECT candidate FROM neighbors"
    return [
        {e.subject for e in vectors.population("s1")},
        {row["query"] for row in rows} | {row["candidate"] for row in rows},
        {name for (name,) in catalog.query(store.root, sql).rows},
        {name for (name,) in catalog.query(store.root, "SELECT subject FROM members").rows},
        {"m2"} | {row["candidate"] for row in nearest(store, "m2")},
        {"m2"} | {name for (name,) in catalog.query(store.root, "SELECT subject FROM most_similar('m2')").rows},
        {n for pair in catalog.query(store.root, "SELECT subject_a, subject_b FROM near_duplicates('s1', -1)").rows
         for n in pair},
    ]  # fmt: skip


def test_a_retired_subject_is_seen_nowhere_and_a_run_that_embeds_it_brings_it_back(store: Store) -> None:
    assert seen(store) == [{"m0", "m1", "m2"}] * 7
    retire(store, [M0], Stamp())
    assert seen(store) == [{"m1", "m2"}] * 7
    with pytest.raises(NotInStoreError, match="'m0' was retired; `fute retire --undo m0`"):
        nearest(store, "m0")
    bring_back(store, [M0, M1], Stamp())
    assert seen(store) == [{"m0", "m1", "m2"}] * 7


def test_who_is_left_is_ranked_without_a_gap_and_leads_over_nobody_who_is_gone(store: Store) -> None:
    vectors = VectorStore(store)
    query = {"space": "s1", "query": "m0", "query_kind": "dataset", "candidate_kind": "model"}
    rows = [query | {"candidate": f"m{i}", "rank": i, "ahead": 2.0 if i == 1 else None} for i in (1, 2, 3)]
    vectors.put_ranking("s1", "second", ranked(*rows), vectors.population("s1"), None, Stamp())
    sql = "SELECT candidate, rank, ahead FROM neighbors ORDER BY rank"

    def told() -> list[tuple]:
        found = [(row["candidate"], row["rank"], row["ahead"]) for row in vectors.neighbors("s1")]
        assert catalog.query(store.root, sql).rows == found
        return found

    assert told() == [("m1", 1, 2.0), ("m2", 2, None), ("m3", 3, None)]
    retire(store, [("model", "m2")], Stamp())
    assert told() == [("m1", 1, None), ("m3", 2, None)]
    bring_back(store, [("model", "m2")], Stamp())
    retire(store, [("model", "m1")], Stamp())
    assert told() == [("m2", 1, None), ("m3", 2, None)]


def test_a_retired_subject_is_ranked_where_it_is_asked_for(store: Store) -> None:
    retire(store, [M0], Stamp())
    assert {e.subject for e in VectorStore(store).population("s1", {M0: "e0000"})} == {"m0", "m1", "m2"}


def test_nothing_is_written_where_nobody_comes_back(store: Store) -> None:
    bring_back(store, [M1], Stamp())
    assert not (store.root / "retired").exists()


def test_what_was_said_last_counts_also_when_the_clock_went_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        years = iter((2030, 2020, 2010))

        @classmethod
        def now(cls, zone: object) -> datetime:
            return datetime(next(cls.years), 1, 1, tzinfo=UTC)

    monkeypatch.setattr(stamp, "datetime", Clock)
    retire(store, [M0], Stamp())
    bring_back(store, [M0], Stamp())
    assert retired(store.root) == set()
    retire(store, [M0, M1], Stamp())
    assert retired(store.root) == {M0, M1}


def test_names_are_looked_up_in_all_spaces(store: Store) -> None:
    write(store.root, range(1), "dataset")
    assert subjects_named(store.root, ["m1", "m2"]) == {M1, ("model", "m2")}
    assert subjects_named(store.root, ["m0"], "dataset") == {("dataset", "m0")}
    with pytest.raises(StoreError, match="a dataset and a model are called 'm0'; say which with --kind"):
        subjects_named(store.root, ["m0"])
    with pytest.raises(NotInStoreError, match="'m11' is embedded.*m1"):
        subjects_named(store.root, ["m11"])
