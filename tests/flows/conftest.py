"""The one place where tests start a Prefect server; and what tests of faults share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from storage import tracker
from tests.flows.fork_runs import Forker
from tests.flows.quick_study import log_of, write_quick_study


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(scope="session", autouse=True)
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow makes its tables once, which takes it seconds: each store of this process begins with a copy."""
    made = tmp_path_factory.mktemp("mlflow") / tracker.TRACKING_FILE
    make_tables = tracker._make_tables

    def copied(path: Path) -> None:
        if not made.exists():
            make_tables(made)
        shutil.copyfile(made, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker, "_make_tables", copied)
        yield


@pytest.fixture(scope="session")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """Runs as processes of their own, to be killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the waiting is MLflow's own, and not what is tested
        with Forker(PREFECT_API_URL.value(), tmp_path_factory.mktemp("calls") / "calls.txt") as forker:
            yield forker


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, forker: Forker) -> Path:
    """A quick study that has run in peace."""
    study = write_quick_study(tmp_path_factory.mktemp("undisturbed"))
    assert forker.run(study) == 0, log_of(study)[-3000:]
    return study
