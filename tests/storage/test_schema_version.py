"""An older store is read as it is, brought up to date by using it, and a newer one is refused.

tests/data/store-v1 was written by the first fute that had a store (commit 3d694c3), and is never written again: prompts
without cot and parse, answers without cost and run, evaluations without candidate, one answer left in SQLite by a
process that was killed, and no schema/version.json.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import fute
from fute.errors import StoreError
from fute.types import TaskEmbedding
from storage import catalog
from storage.export import export_catalog
from storage.folding import fold, folders
from storage.nearest import nearest
from storage.responses import ResponseStore
from storage.schema_version import CURRENT, PLACE, mark_current, stored_version
from storage.stamp import Stamp
from storage.store import Store
from storage.summary import near_in_words, shown_score
from storage.vectors import VectorStore
from storage.views import COMMENTS
from tests.conftest import REPOSITORY
from tests.storage.test_store import embedding_row


@pytest.fixture
def old(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    shutil.copytree(REPOSITORY / "tests" / "data" / "store-v1", root)
    return root


ROWS = {
    "datasets": 1, "dataset_rows": 4, "pools": 1, "pool_rows": 2, "models": 1, "prompts": 1, "outputs": 2, "spaces": 1,
    "embeddings": 3, "frames": 0, "neighbor_history": 2, "neighbors": 2, "member_history": 0, "accuracies": 0,
    "members": 0, "evaluations": 1, "drift": 0, "drift_baselines": 0, "runs": 1, "responses": 2, "prompt_answers": 0,
    "retirements": 0, "alignments": 0,
}  # fmt: skip


def test_every_view_reads_the_first_store_with_the_columns_of_today(old: Path) -> None:
    assert stored_version(old) == 1
    assert set(ROWS) == set(COMMENTS)
    with catalog.Catalog(old) as opened:
        for view, rows in ROWS.items():
            answer = opened.query(f"SELECT * FROM {view}")
            assert len(answer.rows) == rows, view
        empty = {view: catalog.query(old.parent / "empty", f"SELECT * FROM {view}").columns for view in ROWS}
        assert {view: opened.query(f"SELECT * FROM {view}").columns for view in ROWS} == empty
        # What came later is null.
        assert opened.query("SELECT id, cot, parse FROM prompts").rows == [("plain", None, None)]
        assert opened.query("SELECT DISTINCT cost_usd, run_id FROM responses").rows == [(None, None)]
        assert opened.query("SELECT DISTINCT answer_key, other_keys FROM outputs").rows == [(None, None)]
        assert opened.query("SELECT measure, candidate, seed FROM evaluations").rows == [("p_at_1", None, None)]
        # And what was there is as it was.
        assert opened.query("SELECT candidate FROM nearest('soups', k := 1)").rows == [("tfidf/soups",)]
        assert opened.query("SELECT raw_cosine FROM compare('soups', 'tfidf/soups')").rows == [
            (pytest.approx(0.8, abs=1e-6),)
        ]
        assert opened.query("SELECT label_name FROM dataset_rows WHERE split = 'test'").rows == [("good",)]


@pytest.mark.parametrize("version", ["store-v1", "store-v2"])
def test_a_ranking_of_an_earlier_version_says_how_similar_and_nothing_of_chance(tmp_path: Path, version: str) -> None:
    root = tmp_path / "store"
    shutil.copytree(REPOSITORY / "tests" / "data" / version, root)
    (written,) = (root / "neighbors" / "space=s-old").glob("*.parquet")
    cosines = {(row["query"], row["candidate"]): row["score"] for row in pq.read_table(written).to_pylist()}
    rows = VectorStore(Store(root)).neighbors("s-old")
    assert {(row["query"], row["candidate"]): row["similarity"] for row in rows} == cosines
    assert len(rows) == len(cosines) > 0
    for row in rows:
        unknown = ("score", "ci_low", "ci_high", "p_value", "verdict", "ahead", "ahead_low", "ahead_high")
        assert {row[name] for name in unknown} == {None}
        assert near_in_words(row) == f"{row['candidate']} {row['similarity']:.2f}"
        assert shown_score(row) == row["similarity"]


def test_the_first_store_is_brought_up_to_date_by_using_it(old: Path) -> None:
    store = Store(old)
    before = catalog.query(old, "SELECT * FROM embeddings ORDER BY fingerprint")
    assert ResponseStore(old / "responses").export() == 1
    for folder in folders(store):
        assert fold(store, folder, min_files=2).faults == []
    assert len(list((old / "embeddings").rglob("folded/*.parquet"))) == 1
    assert stored_version(old) == CURRENT
    assert catalog.query(old, "SELECT * FROM embeddings ORDER BY fingerprint") == before
    assert catalog.query(old, "SELECT count(*) FROM responses").rows == [(2,)]
    vectors = VectorStore(store)
    vectors.put(
        embedding_row("new", "e-new", space="s-old"), TaskEmbedding(np.array([0.8, 0.6, 0.1], np.float32)), Stamp()
    )
    found = [row["candidate"] for row in nearest(store, "tfidf/soups", 1) if row["candidate_kind"] == "model"]
    assert found == ["new"]


def test_a_store_of_the_second_version_is_read_and_each_record_counts_once(tmp_path: Path) -> None:
    """tests/data/store-v2: folded files wait for removal, part of them twice, with lists of what they replace, marks of
    use and columns of it; a run and two checks that lie there twice; a run that was tried again after it was folded."""
    root = tmp_path / "store"
    shutil.copytree(REPOSITORY / "tests" / "data" / "store-v2", root)
    expected = ["e-m1", "e-m2", "e-m3", "e-n1", "e-o1", "e-p1"]
    for singles_left in (6, 1, 0):
        with catalog.Catalog(root) as opened:
            found = opened.query("SELECT fingerprint, len(vector) FROM embeddings ORDER BY 1").rows
            assert found == [(name, 3) for name in expected]
            assert opened.query("SELECT flow_run_id, state FROM runs ORDER BY 1").rows == [
                ("f0", "Completed"), ("f1", "Completed"), ("f2", "Completed")
            ]  # fmt: skip
            assert opened.query("SELECT count(*) FROM drift").rows == [(2,)]
        vectors = VectorStore(Store(root))
        assert [e.fingerprint for e in vectors.population("s-old")] == ["e-m3", "e-n1", "e-o1", "e-p1"]
        assert all(vectors.has("s-old", "model", name) for name in expected)
        assert [row["candidate"] for row in nearest(vectors.store, "n", 1)] == ["o"]
        assert vectors.store.run_state("f0") == "Completed"
        folder = vectors.folder("s-old", "model")
        assert len(list(folder.glob("*.parquet"))) == singles_left
        if singles_left == 6:  # as a maintenance of that time has left it
            for name in expected[:-1]:
                (folder / f"{name}.parquet").unlink()
        else:
            fold(vectors.store, folder, min_files=1)


def test_a_run_marks_the_store_with_its_version(old: Path) -> None:
    Store(old).put_run({"study": "s", "flow": "embed", "state": "Completed"}, Stamp(None, "f"))
    assert stored_version(old) == CURRENT
    written = (old / PLACE).read_text()
    mark_current(old)
    assert (old / PLACE).read_text() == written


def test_a_store_of_a_later_fute_is_refused_everywhere(old: Path) -> None:
    (old / PLACE).parent.mkdir()
    (old / PLACE).write_text('{"schema_version": 99}')
    for look in (
        lambda: Store(old),
        lambda: catalog.query(old, "SELECT 1"),
        lambda: fute.open(old),
        lambda: export_catalog(old, old.parent / "catalog.duckdb"),
    ):
        with pytest.raises(StoreError, match=f"schema version 99.*reads up to {CURRENT}.*later one"):
            look()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"schema_version": "two"}'])
def test_a_version_that_is_none_is_told(old: Path, content: str) -> None:
    (old / PLACE).parent.mkdir()
    (old / PLACE).write_text(content)
    with pytest.raises(StoreError, match=r"version\.json"):
        Store(old)
