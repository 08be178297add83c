"""How an earlier flow run ended, as the store tells it to MLflow: from folded records too, not from damaged ones."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import mlflow
import pytest

from fute.errors import StoreError
from storage import folding
from storage.stamp import Stamp
from storage.store import Store
from storage.tracker import Tracker, default_uri
from tests.storage import small_store


def put_run(store: Store, flow_run_id: str, state: str = "Completed") -> None:
    store.put_run({"study": "s", "flow": "embed", "state": state, "seconds": 1.0}, Stamp(None, flow_run_id))


def fold(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "RETRIED_WITHIN", timedelta(0))
    assert small_store.fold(store, "runs").files >= 2


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


def test_folded_records_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    put_run(store, "green")
    put_run(store, "red", "Failed: StoreError")
    fold(store, monkeypatch)
    put_run(store, "later")
    assert [store.run_state(name) for name in ("green", "red", "later")] == [
        "Completed", "Failed: StoreError", "Completed",
    ]  # fmt: skip
    assert store.run_state("killed") is None
    put_run(store, "red")  # its flow run was retried
    assert store.run_state("red") == "Completed"


def test_a_run_in_another_part_is_found_beside_a_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    put_run(store, "green")
    put_run(store, "red", "Failed: StoreError")
    fold(store, monkeypatch)
    (tmp_path / "runs" / "folded" / "zz.parquet").write_bytes(b"PAR1 torn")
    assert store.run_state("green") == "Completed"
    with pytest.raises(StoreError, match=r"zz\.parquet cannot be read"):
        store.run_state("killed")


def test_a_damaged_record_is_told_and_the_others_are_caught_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    torn, green, killed = left_running(tmp_path, "torn", "green", "killed")
    for name in ("torn", "green", "another"):
        put_run(store, name)
    shutil.move(tmp_path / "runs" / "torn.parquet", tmp_path / "kept")
    fold(store, monkeypatch)
    (tmp_path / "runs" / "torn.parquet").write_bytes((tmp_path / "kept").read_bytes()[:200])
    with caplog.at_level(logging.WARNING, logger="storage.tracker"):
        tracker = Tracker(default_uri(tmp_path), "e", tmp_path / "runs", store.run_state)
    assert tracker.gap is None
    assert tracker.start("the new one") is not None
    assert f"MLflow run {torn} was left as RUNNING" in caplog.text
    assert str(tmp_path / "runs" / "torn.parquet") in caplog.text
    client = mlflow.MlflowClient(tracking_uri=default_uri(tmp_path))
    status = [client.get_run(run_id).info.status for run_id in (torn, green, killed)]
    assert status == ["RUNNING", "FINISHED", "KILLED"]
