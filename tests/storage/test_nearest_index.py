"""The nearest subjects: by brute force against plain arithmetic, by the index against brute force, and when not."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from fute.errors import NotInStoreError
from fute.types import TaskEmbedding
from fute.unify.frame import GroupReference, Reference, Subject, unify
from storage import nearest, nearest_index
from storage.folding import Files, files_of
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from tasks.maintain import indexes_due
from tests.storage.small_store import FOLDER, fold, vector, write
from tests.storage.test_store import embedding_row, space_row

ROWS, DIM = 3000, 16


def clustered() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, DIM))
    return (centres[rng.integers(0, 60, ROWS)] + 0.6 * rng.standard_normal((ROWS, DIM))).astype(np.float32)


@pytest.fixture
def large(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    vectors = VectorStore(store)
    vectors.put_space(space_row(), Stamp())
    rows = [embedding_row(f"m{i}", f"e{i:05d}") for i in range(ROWS)]
    vectors.put_many(rows, [TaskEmbedding(v) for v in clustered()], Stamp())
    return store


def put(store: Store, subject: str, fingerprint: str, values: np.ndarray) -> None:
    VectorStore(store).put(embedding_row(subject, fingerprint), TaskEmbedding(values), Stamp())


def expected(vectors: np.ndarray, row: int, k: int) -> list[str]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(-(unit @ unit[row]), kind="stable")
    return [f"m{i}" for i in order if i != row][:k]


def candidates(store: Store, subject: str, k: int = 10) -> tuple[list[str], set[str]]:
    rows = nearest.nearest(store, subject, k)
    return [row["candidate"] for row in rows if row["candidate_kind"] == "model"], {
        row["found_by"] for row in rows if row["candidate_kind"] == "model"
    }


def test_brute_force_finds_what_plain_arithmetic_finds(large: Store) -> None:
    assert candidates(large, "m17") == (expected(clustered(), 17, 10), {"brute force"})


def test_the_index_finds_nearly_all_and_says_how_well(large: Store) -> None:
    card = nearest_index.build_index(large, "s1", "model")
    assert (card.rows, card.dim, card.queries) == (ROWS, DIM, 100)
    assert card.recall_at_10 >= nearest_index.WANTED_RECALL
    shares = []
    for row in range(0, ROWS, 100):
        found, by = candidates(large, f"m{row}")
        assert by == {"index"}
        shares.append(len({*found} & {*expected(clustered(), row, 10)}) / 10)
    assert np.mean(shares) > 0.95
    (build,) = nearest_index.index_folder(large, "s1", "model").iterdir()
    assert json.loads((build / "card.json").read_text())["recall_at_10"] == card.recall_at_10
    assert sorted(p.name for p in build.iterdir()) == ["card.json", "members.parquet", "vectors.faiss"]


def test_newer_embeddings_are_looked_at_beside_the_index(large: Store) -> None:
    nearest_index.build_index(large, "s1", "model")
    vectors = clustered()
    put(large, "twin", "twin", vectors[5] * 3)
    put(large, "m9", "e00009-new", vectors[5] * 2)  # another version of a subject that the index has
    found, by = candidates(large, "m5")
    assert found[:2] == ["m9", "twin"]
    assert by == {"index + 2 newer"}
    found, _ = candidates(large, "m9")
    assert set(found[:2]) == {"m5", "twin"}
    folder = large.root / FOLDER
    files = files_of(folder).live
    assert not nearest_index.is_due(large, "s1", "model", files, nearest_index.count_rows(files))


def test_a_stale_missing_or_damaged_index_is_not_used(large: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered()
    nearest_index.build_index(large, "s1", "model")
    (build,) = nearest_index.index_folder(large, "s1", "model").iterdir()
    (build / "vectors.faiss").write_bytes(b"rubbish")
    nearest_index._open.cache_clear()
    assert candidates(large, "m17") == (expected(vectors, 17, 10), {"brute force"})
    nearest_index.build_index(large, "s1", "model")
    assert candidates(large, "m17")[1] == {"index"}
    with monkeypatch.context() as without:
        without.setattr(nearest_index, "available", lambda: False)
        assert candidates(large, "m17") == (expected(vectors, 17, 10), {"brute force"})
    # Another reference: the index is of vectors in another frame.
    mean = vectors.mean(axis=0)
    VectorStore(large).put_reference("s1", Reference(1, {"model": GroupReference(mean)}), Stamp())
    found, by = candidates(large, "m17")
    moved = unify(vectors, [Subject("model", "python")] * ROWS, Reference(1, {"model": GroupReference(mean)}))
    assert (found, by) == (expected(moved, 17, 10), {"brute force"})
    assert candidates(large, "m17")[0] != expected(vectors, 17, 10)
    files = files_of(large.root / FOLDER).live
    assert nearest_index.is_due(large, "s1", "model", files, ROWS)
    nearest_index.build_index(large, "s1", "model")
    assert candidates(large, "m17")[1] == {"index"}
    # A file that it was built of is gone: it was folded into another.
    part = files[0]
    part.rename(part.with_name("other.parquet"))
    assert candidates(large, "m17")[1] == {"brute force"}
    assert len(list(nearest_index.index_folder(large, "s1", "model").iterdir())) == nearest_index.KEPT_BUILDS


def test_torn_names_of_an_index_cost_the_short_cut_only_and_it_is_built_anew(large: Store) -> None:
    nearest_index.build_index(large, "s1", "model")
    (build,) = nearest_index.index_folder(large, "s1", "model").iterdir()
    names = build / "members.parquet"
    names.write_bytes(names.read_bytes()[:50])
    nearest_index._open.cache_clear()
    assert candidates(large, "m17") == (expected(clustered(), 17, 10), {"brute force"})
    # Nor does a torn table of spaces keep the others from their upkeep.
    (large.root / "spaces" / "torn.parquet").write_bytes(b"PAR1xx")
    assert [due.kind for due in indexes_due(str(large.root), 100)] == ["model"]


def test_files_that_are_folded_and_removed_between_the_listing_and_the_reading_are_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write(tmp_path, range(20))
    before = candidates(store, "m3")

    def listed(folder: Path) -> Files:
        files = files_of(folder)
        if files.singles:
            fold(store)
        return files

    monkeypatch.setattr(nearest, "files_of", listed)
    assert candidates(store, "m3") == before
    monkeypatch.setattr(nearest, "files_of", files_of)
    write(tmp_path, range(20, 40))
    every = [pair[:2] for pair in nearest.near_duplicates(store, "s1", 0.9)]
    monkeypatch.setattr(nearest, "files_of", listed)
    assert [pair[:2] for pair in nearest.near_duplicates(store, "s1", 0.9)] == every != []


def both_ways(store: Store, subject: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str], set[str]]:
    """The nearest with the index and without it, and how they were found with it."""
    found, by = candidates(store, subject)
    with monkeypatch.context() as without:
        without.setattr(nearest, "usable_index", lambda *_: None)
        return found, candidates(store, subject)[0], by


@pytest.mark.parametrize("folded", [True, False])
def test_a_subject_that_went_back_to_an_earlier_version_counts_as_that_one(
    large: Store, monkeypatch: pytest.MonkeyPatch, folded: bool
) -> None:
    vectors, mean = VectorStore(large), clustered()
    row, embedding = embedding_row("m9", "e00009-new"), TaskEmbedding(mean[5] * 2)
    if folded:
        vectors.put_many([row], [embedding], Stamp())
    else:
        vectors.put(row, embedding, Stamp())
    files = files_of(large.root / FOLDER).live
    nearest_index.build_index(large, "s1", "model")
    assert candidates(large, "m5")[0][0] == "m9"
    vectors.touch("s1", "model", "e00009")
    found, expected_now, by = both_ways(large, "m5", monkeypatch)
    assert by == {"index + 2 newer"}
    assert "m9" not in found
    assert found == expected_now == [n for n in expected(mean, 5, 11) if n != "m9"][:10]
    found, expected_now, _ = both_ways(large, "m9", monkeypatch)
    assert found == expected_now == expected(mean, 9, 10)
    vectors.touch("s1", "model", "e00009-new")  # and forth again
    found, expected_now, _ = both_ways(large, "m5", monkeypatch)
    assert found == expected_now
    assert found[0] == "m9"
    assert not nearest_index.is_due(large, "s1", "model", files, ROWS)


def test_a_version_of_the_index_that_is_used_after_a_newer_one_counts(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = VectorStore(large)
    nearest_index.build_index(large, "s1", "model")
    put(large, "m9", "e00009-new", clustered()[5] * 2)
    vectors.touch("s1", "model", "e00009")
    found, expected_now, _ = both_ways(large, "m9", monkeypatch)
    assert found == expected_now == expected(clustered(), 9, 10)
    vectors.touch("s1", "model", "e00009-new")
    found, expected_now, by = both_ways(large, "m5", monkeypatch)
    assert found == expected_now
    assert (found[0], by) == ("m9", {"index + 2 newer"})


def test_an_index_is_stale_when_too_many_subjects_went_back(large: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_index, "MOST_READ_AGAIN", 4)
    vectors, values = VectorStore(large), clustered()
    new = [embedding_row(f"m{i}", f"e{i:05d}-new") for i in range(5)]
    vectors.put_many(new, [TaskEmbedding(values[i + 100]) for i in range(5)], Stamp())
    nearest_index.build_index(large, "s1", "model")
    files = files_of(large.root / FOLDER).live
    due = []
    for i in range(5):
        vectors.touch("s1", "model", f"e{i:05d}")
        due.append(nearest_index.is_due(large, "s1", "model", files, ROWS))
        found, expected_now, by = both_ways(large, f"m{i + 100}", monkeypatch)
        assert found == expected_now
    assert due == [False, False, True, True, True]
    assert by == {"brute force"}


def test_a_clock_that_was_set_back_leaves_the_newest_build_the_newest(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        nearest_index.build_index(large, "s1", "model")
    day_ns = 86_400 * 10**9
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - day_ns)
    card = nearest_index.build_index(large, "s1", "model")
    found = nearest_index.newest_card(large, "s1", "model")
    assert found is not None
    assert found[1] == card


def test_kinds_are_ranked_apart_and_the_newest_version_counts(tmp_path: Path) -> None:
    store = write(tmp_path, range(5))
    write(tmp_path, range(5, 8), kind="dataset")
    put(store, "m3", "e0003-new", vector(1))
    rows = nearest.nearest(store, "m1", 2)
    assert [(r["candidate_kind"], r["rank"]) for r in rows] == [
        ("dataset", 1), ("dataset", 2), ("model", 1), ("model", 2),
    ]  # fmt: skip
    assert rows[2]["candidate"] == "m3"
    assert rows[2]["score"] == pytest.approx(1.0)
    assert nearest.near_duplicates(store, "s1", 0.999) == [("m1", "m3", pytest.approx(1.0))]
    with pytest.raises(NotInStoreError, match="no embedding of 'nobody'"):
        nearest.nearest(store, "nobody")
    with pytest.raises(NotInStoreError, match="no space s9"):
        nearest.nearest(store, "m1", space="s9")
