"""prefect.yaml on a real server with a real worker: deploy everything, run one ad hoc, find its embeddings."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml

from flows.services import Ports, command, services
from storage import catalog
from tests.conftest import REPOSITORY
from tests.flows.small_study import write_small_study

pytestmark = pytest.mark.slow

PROGRESS = "embed: 8 embeddings (0 from the store), 0 failed"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scheduled_only(folder: Path) -> Path:
    """As a checkout, with those deployments only that have a schedule, which is quick."""
    folder.mkdir()
    for name in ("flows", "deploy"):
        (folder / name).symlink_to(REPOSITORY / name)
    content = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    content["deployments"] = [each for each in content["deployments"] if each.get("schedules")]
    (folder / "prefect.yaml").write_text(yaml.safe_dump(content))
    return folder


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
        # Loaded by its path, a file has another `__name__`, and a logger of that would be nobody's.
        file = REPOSITORY / deployment["entrypoint"].partition(":")[0]
        assert set(re.findall(r"getLogger\((.*?)\)", file.read_text())) <= {f'"flows.{file.stem}"'}


def test_a_worker_runs_an_ad_hoc_deployment_and_its_progress_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    study = write_small_study(tmp_path / "study", methods=[{"method": "crosscov", "components": 16}])
    monkeypatch.setenv("FUTE_TEST_CALLS", str(tmp_path / "calls.txt"))
    # A server of its own: its database is not the test session's.
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_DATABASE_CONNECTION_URL", raising=False)
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "ERROR")  # as it is in `fute up`
    with services(REPOSITORY, tmp_path / "store", Ports(prefect=free_port()), with_mlflow=False) as running:
        env = running.environment
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
        # The last lines are sent when the run has ended.
        deadline = time.monotonic() + 60
        logs: list[dict[str, str]] = []
        while PROGRESS not in {log["message"] for log in logs} and time.monotonic() < deadline:
            time.sleep(1)
            logs = httpx.post(f"{env['PREFECT_API_URL']}/logs/filter", json={}, timeout=60).raise_for_status().json()
    told = [(log["name"], log["message"]) for log in logs]
    assert told.count(("flows.embed", PROGRESS)) == 1, told
    assert PROGRESS in capfd.readouterr().err
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
