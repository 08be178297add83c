"""kill -9 of the run at random moments: the next run goes on, and ends with what an undisturbed run has."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from tests.flows.embeddings import assert_same, vectors
from tests.flows.fork_runs import Forker, files_below
from tests.flows.quick_study import assert_same_store, log_of, write_quick_study
from tests.processes import until

pytestmark = pytest.mark.slow

STORES, KILLS = 3, 5  # in each store; with those of servers and workers (test_faults_servers) twenty moments
SEED = 20


def test_a_run_killed_at_random_moments_loses_nothing_and_leaves_nothing_double(
    tmp_path: Path, forker: Forker, undisturbed: Path
) -> None:
    rng = random.Random(SEED)
    # Told in files written and not in seconds: so the moments spread over all stages on slow and fast machines alike.
    files = files_below(undisturbed.parent / "store")
    for number in range(STORES):
        study = write_quick_study(tmp_path / str(number))
        for _ in range(KILLS):
            assert forker.killed_after(study, rng.randint(1, files // KILLS - 1), rng.uniform(0, 0.05))
        assert forker.run(study) == 0, log_of(study)[-3000:]
        assert_same_store(study, undisturbed)


def test_what_a_killed_run_has_trained_is_not_trained_again(tmp_path: Path, forker: Forker) -> None:
    models = [{"kind": "trained", "dataset": "*", "recipe": "tfidf"},
              {"kind": "trained", "dataset": "mood", "recipe": "finetune", "epochs": 1, "max_rows": 24}]  # fmt: skip
    whole, killed = (write_quick_study(tmp_path / name, models=models) for name in ("whole", "killed"))
    assert forker.run(whole) == 0, log_of(whole)[-3000:]
    store = killed.parent / "store"
    for pattern in ("models/finetune~mood@*/card.parquet", "outputs/*/*.parquet", "embeddings/*/*/*.parquet"):
        run = forker.start(killed)
        until(lambda: any(store.glob(pattern)), pattern)  # noqa: B023
        os.killpg(run, signal.SIGKILL)
        assert forker.wait() == -signal.SIGKILL
    trained = {path: path.stat().st_mtime_ns for path in store.glob("models/*/weights/*")}
    assert trained
    assert forker.run(killed) == 0, log_of(killed)[-3000:]
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert_same(vectors(store), vectors(whole.parent / "store"))


def test_two_runs_of_one_study_at_once_end_with_one_store(tmp_path: Path, forker: Forker, undisturbed: Path) -> None:
    study = write_quick_study(tmp_path, tracking={"enabled": True})
    with Forker(PREFECT_API_URL.value(), tmp_path / "calls.txt") as other:
        forker.start(study)
        other.start(study)
        codes = forker.wait(), other.wait()
    assert codes == (0, 0), log_of(study)[-3000:]
    assert forker.run(study) == 0
    assert_same_store(study, undisturbed)
