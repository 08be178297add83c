"""How an earlier flow run ended, as the store tells it to MLflow."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from storage.stamp import Stamp
from storage.store import Store
from storage.tracker import Tracker, default_uri


def put_run(store: Store, flow_run_id: str, state: str = "Completed") -> None:
    store.put_run({"study": "s", "flow": "embed", "state": state, "seconds": 1.0}, Stamp(None, flow_run_id))


def left_running(folder: Path, *names: str) -> list[str]:
    """MLflow runs of a process that was killed, by the ids of their flow runs."""
    script = (
        "import os, sys; from pathlib import Path; from storage.tracker import Tracker, default_uri\n"
        "folder = Path(sys.argv[1]); t = Tracker(default_uri(folder), 'e', folder / 'runs')\n"
        "for name in sys.argv[2:]: print(t.start(name, tags={'prefect.flow_run_id': name}), flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    return done.stdout.split()[-len(names) :]


def test_while_a_record_is_damaged_nothing_is_said_of_how_runs_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    left = left_running(tmp_path, "green", "killed")
    put_run(store, "green")
    torn = tmp_path / "runs" / "torn.parquet"
    torn.write_bytes(b"PAR1 half")
    with caplog.at_level(logging.WARNING, logger="storage.tracker"):
        tracker = Tracker(default_uri(tmp_path), "e", tmp_path / "runs", store.run_state)
    assert tracker.start("the new one") is not None
    assert all(f"MLflow run {run} was left as RUNNING" in caplog.text for run in left)
    assert str(torn) in caplog.text
    torn.unlink()
    tracker = Tracker(default_uri(tmp_path), "e", tmp_path / "runs", store.run_state)
    assert tracker.gap is None
    client = mlflow.MlflowClient(tracking_uri=default_uri(tmp_path))
    assert [client.get_run(run_id).info.status for run_id in left] == ["FINISHED", "KILLED"]
