"""Killed at any moment, the same command goes on, and the embeddings equal those of an undisturbed run bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from storage import catalog
from tests.flows.small_study import write_small_study

pytestmark = pytest.mark.slow

PROGRAM = "import sys; from flows.cli import main; main(['run', sys.argv[1]])"
FINISH_TIMEOUT_S = 300


def start(study: Path) -> subprocess.Popen[bytes]:
    env = {**os.environ, "FUTE_TEST_CALLS": str(study.parent / "calls.txt")}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(study)], env=env, start_new_session=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def vectors(folder: Path) -> dict[tuple[str, str], np.ndarray]:
    rows = catalog.query(folder / "store", "SELECT method, subject, vector FROM embeddings").rows
    return {(method, subject): np.array(vector, dtype=np.float32) for method, subject, vector in rows}


def kill_when(process: subprocess.Popen[bytes], reached: Path, pattern: str) -> None:
    """kill -9 the run and the server that it started, as soon as a file of the pattern is there."""
    deadline = time.monotonic() + FINISH_TIMEOUT_S
    while not list(reached.glob(pattern)):
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the run ended before {pattern} appeared: {process.communicate()[1].decode()[-2000:]}")
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_run_goes_on_and_ends_with_the_same_embeddings(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        write_small_study(folder)
    whole = start(undisturbed / "study.yaml")
    _, errors = whole.communicate(timeout=FINISH_TIMEOUT_S)
    assert whole.returncode == 0, errors.decode()[-3000:]

    store = killed / "store"
    for pattern in ("models/finetune~mood@*/card.parquet", "outputs/*/*.parquet", "embeddings/*/*/*.parquet"):
        kill_when(start(killed / "study.yaml"), store, pattern)
    trained = {p: p.stat().st_mtime_ns for p in store.glob("models/*/weights/*")}
    final = start(killed / "study.yaml")
    _, errors = final.communicate(timeout=FINISH_TIMEOUT_S)
    assert final.returncode == 0, errors.decode()[-3000:]

    expected, found = vectors(undisturbed), vectors(killed)
    assert found.keys() == expected.keys()
    for key, vector in expected.items():
        np.testing.assert_array_equal(found[key], vector, err_msg=str(key))
    # What was trained before the last kill was not trained again.
    assert {p: p.stat().st_mtime_ns for p in trained} == trained
