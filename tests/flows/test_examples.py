"""The example studies are right, and those over the demo's data can be planned down to the last model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from examples.demo.data import demo_data
from fute.check_study import check_study
from fute.expand import expand_models
from fute.load_study import load_study
from tasks.plan import plan
from tests.conftest import REPOSITORY

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples with the demo's data beside them, as in a clone after `python -m examples.demo --data-only`."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(REPOSITORY / "examples", folder / "examples")
    demo_data(folder / "demo" / "data")
    return folder / "examples"


@pytest.mark.parametrize("name", [e.name for e in EXAMPLES])
def test_an_example_passes_every_check(examples: Path, name: str) -> None:
    check_study(load_study(examples / name))


def test_the_quickstart_has_the_tasks_and_kinds_of_model_that_it_promises(examples: Path) -> None:
    study = load_study(examples / "quickstart.yaml")
    assert len(study.datasets) == 9
    assert sum(d.text_pair is not None for d in study.datasets) == 2
    models = expand_models(study)
    assert len(models) == 23
    assert {m.kind for m in models} == {"trained", "sklearn", "python", "prompt"}


@pytest.mark.parametrize("name", ["quickstart.yaml", "zoo.yaml", "prompts.yaml"])
def test_an_example_can_be_planned(examples: Path, name: str) -> None:
    study = load_study(examples / name)
    planned = plan(study)
    embedded = {s.subject.partition(" [")[0] for s in planned.steps if s.stage == "embed"}
    assert embedded == {d.id for d in study.datasets} | {str(m.id) for m in expand_models(study)}
    calls = sum(step.calls or 0 for step in planned.steps)
    assert (calls > 0) == bool(study.prompts)
    assert not study.path(study.store).exists()


def test_the_demo_data_is_written_once(examples: Path) -> None:
    folder = demo_data(examples.parent / "demo" / "data")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.parquet")}
    assert len(before) == 9 * 2 + 12
    demo_data(examples.parent / "demo" / "data")
    assert {p: p.stat().st_mtime_ns for p in before} == before
