"""Which version of a subject counts: written in the store, and the same in a copy of it whatever the files' times."""

from __future__ import annotations

import os
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fute.types import TaskEmbedding
from storage import catalog, stamp
from storage.nearest import near_duplicates, nearest
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from tests.storage.small_store import fold, ranked, small_frame, vector
from tests.storage.test_store import embedding_row, space_row

M = ("model", "m")


def put(vectors: VectorStore, subject: str, *names: str) -> None:
    for name in names:
        vectors.put(embedding_row(subject, name), TaskEmbedding(vector(sum(name.encode()))), Stamp("r", "f"))


def rank(vectors: VectorStore, key: str, **current: str) -> None:
    population = vectors.population("s1", {("model", subject): name for subject, name in current.items()})
    row = {"space": "s1", "query": "m", "query_kind": "model", "candidate": key, "candidate_kind": "model", "rank": 1}
    frame = small_frame()
    chance = frame.chance(frame.place([e.vector for e in population]))
    vectors.put_frame("s1", frame, Stamp())
    vectors.put_ranking("s1", key, ranked(row), population, chance, Stamp("r", "f"))


def counts(vectors: VectorStore, subject: str = "m", current: dict | None = None) -> str:
    return next(e.fingerprint for e in vectors.population("s1", current) if e.subject == subject)


@pytest.fixture
def vectors(tmp_path: Path) -> VectorStore:
    found = VectorStore(Store(tmp_path / "store"))
    found.put_space(space_row(), Stamp())
    put(found, "m", "zz-1", "aa-2")
    put(found, "n", "n-1")
    return found


def test_of_a_subject_that_no_ranking_has_seen_the_latest_counts(vectors: VectorStore) -> None:
    assert counts(vectors) == "aa-2"
    assert counts(vectors, current={M: "zz-1"}) == "zz-1"
    assert counts(vectors, current={M: "not in the store"}) == "aa-2"
    assert counts(vectors, current={M: "n-1"}) == "aa-2"  # another subject's


def test_a_subject_that_goes_back_to_an_earlier_version_is_ranked_and_counts_as_that_one(vectors: VectorStore) -> None:
    rank(vectors, "r1")
    rank(vectors, "r2", m="zz-1")
    assert counts(vectors) == "zz-1"
    put(vectors, "m", "newest")  # embedded since
    put(vectors, "o", "o-1")
    assert counts(vectors) == "newest"
    assert counts(vectors, "o") == "o-1"
    rank(vectors, "r3", m="zz-1")
    assert counts(vectors) == "zz-1"


def test_the_last_ranking_counts_also_when_the_clock_has_gone_back(
    vectors: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank(vectors, "r1", m="zz-1")
    rank(vectors, "r2", m="aa-2")
    assert (vectors.has_ranked("s1", "r1"), vectors.has_ranked("s1", "r2")) == (False, True)

    class LongAgo(datetime):
        @classmethod
        def now(cls, tz=None):  # type: ignore[no-untyped-def, override]
            return datetime(2001, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(stamp, "datetime", LongAgo)
    rank(vectors, "r1", m="zz-1")
    assert (vectors.has_ranked("s1", "r1"), vectors.has_ranked("s1", "r2")) == (True, False)
    assert counts(vectors) == "zz-1"
    assert [row["candidate"] for row in vectors.neighbors("s1")] == ["r1"]
    assert catalog.query(vectors.root, "SELECT DISTINCT ranking FROM members").rows == [("r1",)]
    assert catalog.query(vectors.root, "SELECT candidate FROM neighbors").rows == [("r1",)]


@pytest.mark.parametrize("lost", ["members", "neighbors", "spaces", "frames"])
def test_a_ranking_of_which_something_is_lost_is_made_anew(vectors: VectorStore, lost: str) -> None:
    rank(vectors, "r1", m="zz-1")
    assert vectors.has_ranked("s1", "r1")
    shutil.rmtree(vectors.root / lost)
    assert not vectors.has_ranked("s1", "r1")


def test_what_is_chance_for_each_member_is_kept_with_the_ranking_that_saw_it(vectors: VectorStore) -> None:
    assert vectors.chance("s1", vectors.population("s1")) is None
    rank(vectors, "r1", m="zz-1")
    seen = vectors.population("s1")
    frame = small_frame()
    expected = frame.chance(frame.place([e.vector for e in seen]))
    put(vectors, "m", "newest")
    put(vectors, "new", "new-1")
    now = vectors.population("s1")
    kept = vectors.chance("s1", [*reversed(seen), *now])
    assert kept is not None
    unknown = [e.fingerprint in ("newest", "new-1") for e in now]
    for kind in ("dataset", "model"):
        for told, own in zip(kept.of[kind], expected.of[kind], strict=True):
            np.testing.assert_array_equal(told[:2], own[::-1])
            assert np.isnan(told[2:]).tolist() == unknown
    vectors.put_ranking("s1", "r2", ranked(), now, None, Stamp("r", "f"))  # without a frame
    assert vectors.chance("s1", now) is None


def test_sql_counts_the_same_versions(vectors: VectorStore) -> None:
    rank(vectors, "r1")
    rank(vectors, "r2", m="zz-1")
    with catalog.Catalog(vectors.root) as opened:
        assert opened.query("SELECT subject, fingerprint FROM members ORDER BY ALL").rows == [
            ("m", "zz-1"), ("n", "n-1")
        ]  # fmt: skip
        assert opened.query("SELECT ranking, count(*) FROM member_history GROUP BY ALL ORDER BY 1").rows == [
            ("r1", 2), ("r2", 2)
        ]  # fmt: skip
    a, b = vector(sum(b"zz-1")), vector(sum(b"n-1"))
    expected = pytest.approx(float(a @ b / ((a @ a) * (b @ b)) ** 0.5), abs=1e-6)
    with catalog.Catalog(vectors.root) as opened:
        for macro in ("compare('m', 'n')", "near_duplicates('s1', -1.0)", "most_similar('m', k := 1)"):
            assert opened.query(f"SELECT raw_cosine FROM {macro}").rows == [(expected,)], macro


def answers(root: Path) -> list[object]:
    vectors = VectorStore(Store(root))
    queries = ("embeddings ORDER BY fingerprint", "members ORDER BY subject", "neighbors", "compare('m', 'n')",
               "near_duplicates('s1', -1.0)", "most_similar('m')")  # fmt: skip
    with catalog.Catalog(root) as opened:
        return [
            [(e.fingerprint, e.vector.tolist()) for e in vectors.population("s1")],
            vectors.neighbors("s1"),
            nearest(vectors.store, "m"),
            near_duplicates(vectors.store, "s1", -1.0),
            *(opened.query(f"SELECT * FROM {query}").rows for query in queries),
        ]


@pytest.mark.parametrize("folded", [False, True])
def test_a_copy_without_the_files_times_gives_the_same_answers(
    vectors: VectorStore, tmp_path: Path, folded: bool
) -> None:
    for i in range(6):
        put(vectors, f"s{i}", f"{i}-b", f"{i}-a", f"{i}-c")
    rank(vectors, "r1", s1="1-b", s2="2-a")
    rank(vectors, "r2", s1="1-a", m="zz-1")
    put(vectors, "s3", "3-d")
    if folded:
        fold(vectors.store)
        put(vectors, "s4", "4-d")
    told = answers(vectors.root)
    rng = random.Random(0)
    for n in range(2):
        copy = tmp_path / f"copy-{n}"
        shutil.copytree(vectors.root, copy, copy_function=shutil.copyfile)
        for path in copy.rglob("*.parquet"):
            os.utime(path, (rng.uniform(0, 2e9),) * 2)
        assert answers(copy) == told
