"""The same study on threads of one process, on Dask workers and on Ray workers: the same embeddings, to rounding."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from flows.embed import embed
from flows.runners import runner_name
from fute.errors import ConfigError
from fute.load_study import load_study
from tests.flows.embeddings import Vectors, assert_same, vectors
from tests.flows.small_study import write_small_study

pytestmark = pytest.mark.slow

MODELS = [
    {"kind": "trained", "dataset": "*", "recipe": "tfidf"},
    {"kind": "python", "id": "counted", "entry_point": "small_models:counted"},
    {"kind": "python", "id": "raises", "entry_point": "small_models:raises"},
]


def write_study(folder: Path) -> Path:
    return write_small_study(folder, methods=[{"method": "crosscov", "components": 16}], models=MODELS)


@pytest.fixture(scope="module")
def on_threads(tmp_path_factory: pytest.TempPathFactory) -> Vectors:
    folder = tmp_path_factory.mktemp("threads")
    study = write_study(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUTE_TEST_CALLS", str(folder / "calls.txt"))
        assert embed(str(study), return_state=True).name == "CompletedWithFailures"
    made = vectors(study.parent / "store")
    assert len(made) == 7
    return made


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_workers_in_other_processes_make_the_same_embeddings(
    runner: str, on_threads: Vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"prefect-{runner} is not installed (pip install 'fute[{runner}]')")
    monkeypatch.setenv("FUTE_TEST_CALLS", str(tmp_path / "calls.txt"))
    monkeypatch.setenv("FUTE_TASK_RUNNER", runner)
    study = write_study(tmp_path / "study")
    state = embed(str(study), return_state=True)
    # A model's own fault comes back from the other process with its reason, and stops no other.
    assert state.name == "CompletedWithFailures"
    assert "1 failed: raises (outputs): " in str(state.message)
    assert "a fault of the model's own" in str(state.message)
    assert_same(vectors(study.parent / "store"), on_threads, atol=1e-6)
    assert (tmp_path / "calls.txt").read_text().splitlines() == ["60"]


def test_the_environment_goes_before_the_study_and_a_wrong_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(write_small_study(tmp_path, task_runner="dask"))
    assert runner_name(study) == "dask"
    monkeypatch.setenv("FUTE_TASK_RUNNER", "threads")
    assert runner_name(study) == "threads"
    monkeypatch.setenv("FUTE_TASK_RUNNER", "spark")
    with pytest.raises(ConfigError, match="FUTE_TASK_RUNNER is 'spark'; set it to one of: threads, dask, ray"):
        runner_name(study)
