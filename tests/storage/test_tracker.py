"""MLflow: a tracker that is off or down is reported and stops nothing."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from storage.tracker import Tracker, default_uri


def use_all_of(tracker: Tracker, folder: Path) -> str | None:
    run = tracker.start("run", tags={"a": "b", "empty": None}, params={"long": "x" * 10_000})
    child = tracker.start("child", parent=run)
    tracker.metrics(run, {"loss": 0.5})
    tracker.dataset(run, "d", "digest", {"path": "here"}, {"rows": 2})
    tracker.text(run, "hello", "hello.txt")
    tracker.end(child)
    tracker.end(run, failed=True)
    return run


def test_tracking_that_is_off_does_nothing(tmp_path: Path) -> None:
    assert use_all_of(Tracker(None, "e", tmp_path), tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_cannot_be_opened_is_a_warning_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with caplog.at_level(logging.WARNING, logger="storage.tracker"):
        assert use_all_of(Tracker(default_uri(tmp_path), "e", tmp_path / "runs"), tmp_path) is None
    assert "goes on without tracking" in caplog.text


def test_runs_are_nested_and_long_values_are_cut(tmp_path: Path) -> None:
    import mlflow

    tracker = Tracker(default_uri(tmp_path), "e", tmp_path / "runs")
    run = use_all_of(tracker, tmp_path)
    client = mlflow.MlflowClient(tracking_uri=default_uri(tmp_path))
    kept = client.get_run(str(run))
    assert kept.info.status == "FAILED"
    assert kept.data.metrics == {"loss": 0.5}
    assert len(kept.data.params["long"]) == 6000
    nested = client.search_runs([kept.info.experiment_id], filter_string=f"tags.mlflow.parentRunId = '{run}'")
    assert [r.info.run_name for r in nested] == ["child"]
    assert [a.path for a in client.list_artifacts(str(run))] == ["hello.txt"]


def test_runs_of_a_killed_process_are_ended_by_the_next_tracker_and_those_of_a_living_one_are_not(
    tmp_path: Path,
) -> None:
    import mlflow

    script = (
        "import os, sys; from pathlib import Path; from storage.tracker import Tracker, default_uri\n"
        "folder = Path(sys.argv[1]); t = Tracker(default_uri(folder), 'e', folder / 'runs')\n"
        "print(t.start('killed'), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    killed = done.stdout.split()[-1]
    living = str(Tracker(default_uri(tmp_path), "e", tmp_path / "runs").start("living"))
    Tracker(default_uri(tmp_path), "e", tmp_path / "runs")
    client = mlflow.MlflowClient(tracking_uri=default_uri(tmp_path))
    assert client.get_run(killed).info.status == "KILLED"
    assert client.get_run(living).info.status == "RUNNING"
