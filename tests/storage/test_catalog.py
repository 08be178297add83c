"""SQL over the store: views on an empty store, macros, refusals."""

from __future__ import annotations

import errno
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from fute.errors import NotInStoreError, StoreError
from fute.llm.types import Answer
from fute.types import Outputs, Pool, TaskEmbedding, TextTable
from storage import catalog, listing
from storage.export import export_catalog
from storage.files import read_parquet, write_parquet
from storage.responses import ResponseStore
from storage.seal import advice
from storage.stamp import Stamp
from storage.store import Store, to_json
from storage.vectors import VectorStore
from storage.views import VIEWS
from tests.conftest import REPOSITORY
from tests.docs_store import asked, fixed_time, write_docs_store
from tests.storage.small_store import ranked
from tests.storage.test_store import embedding_row, space_row


def filled(root: Path) -> Store:
    store = Store(root)
    vectors = VectorStore(store)
    vectors.put_space(space_row(), Stamp())
    vectors.put(embedding_row("m1", "e1"), TaskEmbedding(np.array([1, 0], dtype=np.float32)), Stamp("run", "flow"))
    vectors.put(embedding_row("m2", "e2"), TaskEmbedding(np.array([0.6, 0.8], dtype=np.float32)), Stamp())
    vectors.put(embedding_row("d", "e3", kind="dataset"), TaskEmbedding(np.array([1, 0], dtype=np.float32)), Stamp())
    near = {"space": "s1", "query": "d", "query_kind": "dataset", "candidate_kind": "model"}
    neighbors = ranked(
        {**near, "candidate": "m1", "rank": 1, "score": 9.0, "p_value": 1e-6, "verdict": "fits", "similarity": 1.0},
        {**near, "candidate": "m2", "rank": 2, "score": 1.5, "p_value": 0.4, "verdict": "nothing", "similarity": 0.6},
    )
    vectors.put_ranking("s1", "n1", neighbors, vectors.population("s1"), None, Stamp())
    return store


@pytest.mark.parametrize("view", [*(v.name for v in VIEWS), "neighbors"])
def test_every_view_works_on_an_empty_store(tmp_path: Path, view: str) -> None:
    answer = catalog.query(tmp_path / "nowhere", f"SELECT * FROM {view}")
    assert answer.rows == []
    assert len(answer.columns) > 3
    assert not (tmp_path / "nowhere").exists()


def test_every_macro_works_on_an_empty_store(tmp_path: Path) -> None:
    assert catalog.query(tmp_path, "SELECT * FROM nearest('x', k := 3)").rows == []
    assert catalog.query(tmp_path, "SELECT * FROM compare('x', 'y')").rows == []


def test_nearest_gives_the_ranked_neighbours(tmp_path: Path) -> None:
    store = filled(tmp_path)
    rows = catalog.query(store.root, "SELECT candidate, rank FROM nearest('d', k := 1)").rows
    assert rows == [("m1", 1)]


def test_compare_gives_the_cosine(tmp_path: Path) -> None:
    store = filled(tmp_path)
    ((cosine,),) = catalog.query(store.root, "SELECT raw_cosine FROM compare('m1', 'm2')").rows
    assert cosine == pytest.approx(0.6, abs=1e-6)


def test_vectors_of_two_spaces_are_refused_with_an_explanation(tmp_path: Path) -> None:
    store = filled(tmp_path)
    VectorStore(store).put(
        embedding_row("m1", "e9", space="s2"), TaskEmbedding(np.array([1, 0], dtype=np.float32)), Stamp()
    )
    sql = """SELECT task_similarity(a.space, a.vector, b.space, b.vector)
             FROM embeddings a, embeddings b WHERE a.space = 's1' AND b.space = 's2'"""
    with pytest.raises(StoreError, match="cannot be compared"):
        catalog.query(store.root, sql)


def test_an_embedding_row_carries_where_it_came_from(tmp_path: Path) -> None:
    store = filled(tmp_path)
    sql = "SELECT run_id, flow_run_id, dim, len(vector), git_commit FROM embeddings WHERE subject = 'm1'"
    ((run, flow, dim, length, commit),) = catalog.query(store.root, sql).rows
    assert (run, flow, dim, length) == ("run", "flow", 2, 2)
    assert commit


def test_embeddings_of_different_length_live_in_one_view(tmp_path: Path) -> None:
    store = filled(tmp_path)
    VectorStore(store).put(
        embedding_row("m3", "e4", space="s2"), TaskEmbedding(np.array([1, 0, 0], dtype=np.float32)), Stamp()
    )
    assert catalog.query(store.root, "SELECT max(dim), min(dim) FROM embeddings").rows == [(3, 2)]


def test_a_query_reads_nothing_outside_the_store(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with pytest.raises(StoreError, match="(?i)permission|disabled"):
        catalog.query(store.root, f"SELECT * FROM read_csv('{secret}')")


@pytest.mark.parametrize(
    "sql", ["COPY (SELECT 1) TO '{store}/x.parquet'", "CREATE TABLE t (a INT)", "", "SELECT 1; SELECT 2"]
)
def test_only_one_reading_statement_is_run(tmp_path: Path, sql: str) -> None:
    store = filled(tmp_path)
    with pytest.raises(StoreError, match="one SELECT"):
        catalog.query(store.root, sql.format(store=store.root))
    assert not (store.root / "x.parquet").exists()


def test_a_damaged_file_is_an_error_of_ours(tmp_path: Path) -> None:
    store = filled(tmp_path)
    torn = next((store.root / "spaces").glob("*.parquet"))
    torn.write_bytes(torn.read_bytes()[:-20])
    with pytest.raises(StoreError, match=rf"{torn} cannot be read \(.*\); delete it and run the study again"):
        catalog.query(store.root, "SELECT * FROM spaces")
    # It keeps nobody from the rest.
    assert catalog.query(store.root, "SELECT count(*) FROM embeddings").rows == [(3,)]
    answers = store.root / "responses" / "torn.parquet"
    answers.parent.mkdir(exist_ok=True)
    answers.write_bytes(b"PAR1 and no more")
    for view in ("responses", "spaces"):
        with pytest.raises(StoreError, match=r"torn.* cannot be read|spaces/.* cannot be read"):
            catalog.query(store.root, f"SELECT count(*) FROM {view}")
    assert catalog.query(store.root, "SELECT count(*) FROM embeddings").rows == [(3,)]


def test_nobody_is_told_to_delete_what_is_whole_or_cannot_be_made_again(tmp_path: Path) -> None:
    path = tmp_path / "outputs" / "m.parquet"
    assert "run again" in advice(path, OSError(errno.EMFILE, "Too many open files"))
    assert "delete" not in advice(path, OSError(errno.EMFILE, "Too many open files"))
    assert "delete it" in advice(path, pa.ArrowInvalid("no magic bytes"))
    for folder in ("runs", "drift", "responses"):
        told = advice(tmp_path / folder / "x.parquet", pa.ArrowInvalid("no magic bytes"))
        assert "put back a copy" in told
        assert "delete" not in told


def test_of_a_run_that_was_tried_again_the_last_record_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    row = {"study": "s", "flow": "pipeline", "seconds": 1.0, "spaces": [], "failures": "[]", "settings": "{}",
           "report": None}  # fmt: skip
    with fixed_time() as clock:
        store.put_run({**row, "state": "Failed"}, Stamp("r", "tried-again"))
        folded = next((tmp_path / "runs").glob("*.parquet"))
        (tmp_path / "runs" / "folded").mkdir()
        write_parquet(store.scratch, folded.parent / "folded" / "before.parquet", read_parquet(folded))
        folded.unlink()
        clock.tomorrow()
        store.put_run({**row, "state": "Completed"}, Stamp("r", "tried-again"))
        for _ in range(2):
            clock.tomorrow()
            store.put_run({**row, "state": "Completed"}, Stamp("r", None))
    query = "SELECT state FROM runs WHERE flow_run_id = 'tried-again'"
    assert catalog.query(store.root, query).rows == [("Completed",)]
    unnamed = len(list((tmp_path / "runs").glob("*.parquet"))) - 1
    assert catalog.query(store.root, "SELECT count(*) FROM runs").rows == [(1 + unnamed,)]
    export_catalog(store.root, tmp_path / "catalog.duckdb")
    with duckdb.connect(str(tmp_path / "catalog.duckdb"), read_only=True) as exported:
        assert exported.execute(query).fetchall() == [("Completed",)]


def test_pool_rows_can_be_joined_to_outputs(tmp_path: Path) -> None:
    store = Store(tmp_path)
    pool = store.put_pool(Pool(TextTable(["a", "b"]), ["s", "s"]), Stamp())
    store.put_outputs(pool, "m@1", Outputs("labels", np.eye(2, dtype=np.float32), ("no", "yes")), Stamp())
    sql = "SELECT text, label FROM pool_rows JOIN outputs USING (pool, row) ORDER BY row"
    assert catalog.query(store.root, sql).rows == [("a", "no"), ("b", "yes")]


def test_a_wrong_query_names_the_views(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="embeddings.*neighbors"):
        catalog.query(tmp_path, "SELECT * FROM embedings")


def test_values_are_bound_not_pasted(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with pytest.raises(NotInStoreError, match="nothing named"):
        listing.show(store.root, "x' OR 1=1 --")
    with pytest.raises(NotInStoreError, match=r"nothing named 'S1' in .*; did you mean 's1'\?"):
        listing.show(store.root, "S1")


def test_show_finds_a_space_and_its_columns(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert listing.show(store.root, "s1")["space"][0]["method"] == "crosscov"


def test_ls_counts_every_view(tmp_path: Path) -> None:
    _, rows = listing.views(filled(tmp_path).root)
    counts = {row[0]: row[1] for row in rows}
    assert counts["embeddings"] == 3
    assert counts["neighbors"] == 2
    for view in listing.LISTED:
        listing.rows(tmp_path, view)
    with pytest.raises(NotInStoreError, match="no view"):
        listing.rows(tmp_path, "embeddings; DROP TABLE x")


def test_only_the_newest_unification_of_a_space_counts(tmp_path: Path) -> None:
    store = filled(tmp_path)
    newer = ranked({"space": "s1", "query": "d", "query_kind": "dataset", "candidate": "m2", "candidate_kind": "model",
                    "rank": 1, "score": 7.5, "verdict": "fits", "similarity": 0.3})  # fmt: skip
    VectorStore(store).put_ranking("s1", "n2", newer, VectorStore(store).population("s1"), None, Stamp())
    assert catalog.query(store.root, "SELECT candidate, score, p_value FROM neighbors").rows == [("m2", 7.5, None)]
    assert len(catalog.query(store.root, "SELECT * FROM neighbor_history").rows) == 3


def test_what_a_correct_answer_costs_is_told_for_each_llm(tmp_path: Path) -> None:
    store = write_docs_store(tmp_path / "store")
    query = (REPOSITORY / "docs" / "sql.md").read_text("utf-8").split("what does a correct answer cost?")[1]
    query = query.split("```sql\n")[1].split("```")[0]
    pool = str(catalog.query(store.root, "SELECT pool FROM pools").rows[0][0])
    texts = store.pool(pool).inputs.texts
    # The same prompt at two more LLMs, through an endpoint of another name: one always wrong, one that reasons first.
    said = {"wrong": [1, 1, 1, 0, 0, 0, 0, 0], "deep": [0, 0, 0, 1, 1, 1, 0, 0]}
    steps = {"wrong": [""], "deep": ["", " and its reasoning"]}
    with ResponseStore(store.root / "responses") as responses:
        for llm, labels in said.items():
            settings = {"kind": "prompt", "prompt": "plain", "endpoint": llm, "service": "elsewhere", "llm": llm}
            store.put_model({"ref": f"plain/{llm}@1", "id": f"plain/{llm}", "fingerprint": "1", "kind": "prompt",
                             "task": "reviews", "settings": to_json(settings), "score": None, "score_name": None,
                             "majority": None}, Stamp("r", "f"))  # fmt: skip
            requests = [[asked("plain", f"{text}{step}", "elsewhere", llm) for step in steps[llm]] for text in texts]
            keys = [[request.key for request in of_row] for of_row in requests]
            values = np.eye(2, dtype=np.float32)[labels] * 0.8 + 0.1
            outputs = Outputs("probabilities", values, ("good", "bad"), answer_keys=keys)
            store.put_outputs(pool, f"plain/{llm}@1", outputs, Stamp("r", "f"))
            for request in (request for of_row in requests for request in of_row):
                responses.put(request, Answer("", None, 12, 1, 80.0, llm, "stop"), 0.001)
        # Paid for, and no answer that outputs came from.
        responses.put(asked("plain", texts[0], "a check of drift", "deep"), Answer("bad"), 0.5)
        responses.export()
    found = {tuple(row[:2]): tuple(row[2:6]) for row in catalog.query(store.root, query).rows}
    assert found == {
        ("plain", "small"): (8, 0.0032, 6, 6), ("terse", "small"): (8, 0.0008, 6, 4),
        ("plain", "wrong"): (8, 0.008, 6, 0), ("plain", "deep"): (16, 0.016, 6, 6),
    }  # fmt: skip
