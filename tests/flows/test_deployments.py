"""prefect.yaml on a real server with a real worker: deploy everything, run one ad hoc, find its embeddings."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from flows.services import Ports, command, services
from storage import catalog
from tests.conftest import REPOSITORY
from tests.flows.small_study import write_small_study


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_flow_has_a_deployment_and_three_have_a_schedule() -> None:
    deployments = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    flows = {d["entrypoint"].partition(":")[2] for d in deployments}
    assert flows == {
        "ingest",
        "surrogate",
        "embed",
        "unify",
        "report",
        "pipeline",
        "transfer",
        "drift",
        "select_prompts",
        "maintain",
    }
    scheduled = {d["entrypoint"]: d["schedules"][0]["cron"] for d in deployments if d.get("schedules")}
    assert scheduled == {
        "flows/pipeline.py:pipeline": "0 2 * * *",
        "flows/drift.py:drift": "17 * * * *",
        "flows/maintain.py:maintain": "37 4 * * 0",
    }
    for deployment in deployments:
        assert (REPOSITORY / deployment["parameters"]["study"]).is_file()


def test_a_worker_runs_an_ad_hoc_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write_small_study(tmp_path / "study", methods=[{"method": "crosscov", "components": 16}])
    monkeypatch.setenv("FUTE_TEST_CALLS", str(tmp_path / "calls.txt"))
    # A server of its own: its database is not the test session's.
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_DATABASE_CONNECTION_URL", raising=False)
    with services(REPOSITORY, tmp_path / "store", Ports(prefect=free_port()), with_mlflow=False) as env:
        listed = subprocess.run([command("prefect"), "deployment", "ls"], env={**env, "COLUMNS": "200"},
                                capture_output=True, text=True, check=True).stdout  # fmt: skip
        for name in ("pipeline/nightly", "drift/hourly", "pipeline/adhoc", "embed/adhoc", "ingest/adhoc",
                     "surrogate/adhoc", "unify/adhoc", "report/adhoc", "transfer/adhoc"):  # fmt: skip
            assert name in listed
        done = subprocess.run(
            [command("prefect"), "deployment", "run", "embed/adhoc", "--param", f"study={study}", "--watch"],
            env=env, capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    rows = catalog.query(
        study.parent / "store", "SELECT kind, count(*) FROM embeddings GROUP BY kind ORDER BY kind"
    ).rows
    assert rows == [("dataset", 3), ("model", 5)]
    ((flow, state, run_id, flow_run_id),) = catalog.query(
        study.parent / "store", "SELECT flow, state, run_id, flow_run_id FROM runs"
    ).rows
    assert (flow, state) == ("embed", "Completed")
    assert run_id
    assert flow_run_id
