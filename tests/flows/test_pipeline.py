"""The whole job on a small study: results, resume, failures, tracking."""

from __future__ import annotations

import json
import re
from pathlib import Path

import mlflow
import numpy as np
import pytest
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State

from flows.embed import embed
from flows.ingest import ingest
from flows.pipeline import pipeline
from flows.surrogate import surrogate
from flows.unify import unify
from storage import catalog
from tests.flows.embeddings import assert_same, subjects, vectors
from tests.flows.small_study import FAULTS, write_small_study


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the study's counting model leaves a line for each call."""
    file = tmp_path / "calls.txt"
    file.touch()
    monkeypatch.setenv("FUTE_TEST_CALLS", str(file))
    return file


def run(study: Path) -> State:
    return pipeline(str(study), return_state=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State, Path]:
    """One finished run with faulty models in its zoo."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "calls.txt").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUTE_TEST_CALLS", str(folder / "calls.txt"))
        study = write_small_study(folder, faults=True)
        return study, run(study), folder / "calls.txt"


def test_a_failing_model_stops_no_other_and_is_listed_with_its_reason(finished: tuple[Path, State, Path]) -> None:
    study, state, _ = finished
    assert state.is_failed()
    assert state.name == "CompletedWithFailures"
    ((failures,),) = catalog.query(study.parent / "store", "SELECT failures FROM runs").rows
    reasons = {f["subject"]: f["reason"] for f in json.loads(failures)}
    assert set(reasons) == set(FAULTS)
    assert "ZeroDivisionError" in reasons["raises"]
    assert "NaN" in reasons["nan"]
    assert "60 inputs" in reasons["short"]
    assert "constant" in reasons["constant"]
    datasets = {"mood", "topic", "asks"}
    trained = {"finetune/mood", *(f"tfidf/{name}" for name in datasets)}
    assert subjects(study.parent / "store") == {*datasets, *trained, "counted"}


def test_every_subject_is_embedded_by_both_methods(finished: tuple[Path, State, Path]) -> None:
    found = vectors(finished[0].parent / "store")
    assert {method for method, _ in found} == {"crosscov", "tupate"}
    assert len(found) == 2 * 8
    for vector in found.values():
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)


def test_each_dataset_has_neighbours_ranked_by_their_scores_in_the_frame(finished: tuple[Path, State, Path]) -> None:
    sql = """SELECT candidate, score, verdict FROM nearest('topic', k := 5)
             WHERE candidate_kind = 'model' AND method = 'crosscov'"""
    rows = catalog.query(finished[0].parent / "store", sql).rows
    assert len(rows) == 5
    assert [r[1] for r in rows] == sorted((r[1] for r in rows), reverse=True)
    assert rows[0][0] == "tfidf/topic"
    assert rows[0][1] > 0
    assert {r[2] for r in rows} <= {"fits", "may fit", "nothing"}
    framed = catalog.query(finished[0].parent / "store", "SELECT method FROM frames JOIN spaces USING (space)").rows
    assert {method for (method,) in framed} == {"crosscov", "tupate"}


def test_mlflow_holds_the_run_and_a_nested_run_for_each_model(finished: tuple[Path, State, Path]) -> None:
    store = finished[0].parent / "store"
    ((run_id, flow_run_id),) = catalog.query(store, "SELECT run_id, flow_run_id FROM runs").rows
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store}/mlflow.db")
    parent = client.get_run(run_id)
    assert parent.data.tags["prefect.flow_run_id"] == flow_run_id
    assert parent.data.params["study"] == "small"
    stages = ("ingest", "surrogate", "outputs", "embed", "unify", "report")
    assert {*(f"seconds_{stage}" for stage in stages), "seconds", "failures"} <= set(parent.data.metrics)
    assert parent.data.metrics["failures"] == 4
    assert {d.dataset.name for d in parent.inputs.dataset_inputs} == {"mood", "topic", "asks"}
    artifacts = [a.path for a in client.list_artifacts(run_id)]
    assert "study.json" in artifacts
    assert [a for a in artifacts if a.endswith(".html")] == ["study-small.html"]
    assert "store-page.txt" in artifacts
    nested = client.search_runs(
        [parent.info.experiment_id], filter_string=f"tags.mlflow.parentRunId = '{run_id}'", max_results=100
    )
    status = {r.info.run_name: r.info.status for r in nested}
    assert status["tfidf/topic"] == "FINISHED"
    assert status["raises"] == "FAILED"
    assert {r.data.tags.get("prefect.flow_run_id") for r in nested} == {flow_run_id}
    scored = next(r for r in nested if r.info.run_name == "tfidf/topic")
    assert 0 <= scored.data.metrics["score"] <= 1
    rows = catalog.query(store, "SELECT DISTINCT run_id, flow_run_id FROM embeddings").rows
    assert rows == [(run_id, flow_run_id)]


def test_prefect_holds_the_result_table_and_links_to_the_pages(finished: tuple[Path, State, Path]) -> None:
    result = Artifact.get("fute-crosscov-result")
    assert result is not None
    assert re.search(r"\| topic \| unknown\\: \w[^|]+ \| tfidf/topic", str(result.data))
    assert "ZeroDivisionError" in str(result.data)
    reports = finished[0].parent / "store" / "reports"
    for key, name in (("fute-study-page", "study-small.html"), ("fute-store-page", "store.html")):
        link = Artifact.get(key)
        assert link is not None
        assert (reports / name).is_file()
        assert (reports / name).as_uri() in str(link.data)


def test_the_flow_run_of_the_store_is_known_to_prefect(finished: tuple[Path, State, Path]) -> None:
    ((flow_run_id,),) = catalog.query(finished[0].parent / "store", "SELECT flow_run_id FROM runs").rows
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(flow_run_id).state_name == "CompletedWithFailures"


def test_a_second_run_asks_no_model_and_trains_nothing(
    finished: tuple[Path, State, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _, calls_file = finished
    store = study.parent / "store"
    monkeypatch.setenv("FUTE_TEST_CALLS", str(calls_file))
    monkeypatch.setattr("tasks.embed.train", lambda *a, **k: pytest.fail("trained again"))
    before, asked = vectors(store), calls_file.read_text()
    assert asked.count("\n") == 1
    run(study)
    assert calls_file.read_text() == asked
    assert_same(vectors(store), before)


def test_the_stages_run_alone_one_after_the_other(tmp_path: Path, calls: Path) -> None:
    study = str(write_small_study(tmp_path, methods=[{"method": "crosscov", "components": 16}]))
    ingested = ingest(study)
    assert [d.id for d in ingested.datasets] == ["mood", "topic", "asks"]
    (space,) = surrogate(study)
    assert space.pool == ingested.pool.id
    assert len(embed(study).embeddings) == 8
    (unified,) = unify(study)
    assert unified.subjects == 8
    flows = catalog.query(tmp_path / "store", "SELECT flow, state FROM runs ORDER BY created_at").rows
    assert flows == [(f, "Completed") for f in ("ingest", "surrogate", "embed", "unify")]


def test_a_refused_dataset_stops_the_run_before_any_model_is_asked(tmp_path: Path, calls: Path) -> None:
    study = write_small_study(tmp_path)
    (tmp_path / "mood-train.parquet").unlink()
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a", None] * 20, "label": ["x", "y"] * 20}), tmp_path / "mood-train.parquet")
    state = run(study)
    assert state.is_failed()
    assert "mood" in str(state.message)
    assert calls.read_text() == ""
