"""A second run with nothing left to do: recorded, without a server and what computes, and only then."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import yaml

from flows import unchanged
from flows.pipeline import pipeline
from flows.results import recorded_run
from flows.run_record import RunRecord
from flows.unchanged import reports_to_a_server, run_unchanged
from fute.fingerprint import digest_file
from fute.load_study import load_study
from storage import catalog
from storage.retirements import retire
from storage.stamp import Stamp
from storage.store import Store
from tasks.plan import TODO, finished_spaces, steps
from tests.conftest import REPOSITORY
from tests.flows.quick_study import write_quick_study

API = "http://127.0.0.1:4200/api"
HEAVY = ("prefect", "scipy.optimize", "sklearn", "torch", "transformers")
PROGRAM = f"""
import sys
from flows.cli import main
try:
    main(["run", sys.argv[1]])
finally:
    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""
WRITTEN = ("runs/*", "reports/*", "mlflow.db*", "mlruns/**/*", "locks/*", "layouts/*", "schema/*")
"""What a run writes that finds everything: its record and its pages."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that has run."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUTE_TEST_CALLS", str(folder / "calls.txt"))
        prompt = {"id": "unused", "template": "Good or bad? {{text}}", "verbalizer": {"a": ["good"], "b": ["bad"]}}
        methods = [{"method": "crosscov", "components": 16}]
        study = write_quick_study(folder, methods=methods, prompts=[prompt], tracking={"enabled": True})
        assert pipeline(str(study), return_state=True).is_completed()
    return study


def artifacts(store: Path) -> dict[str, str]:
    written = {path for pattern in WRITTEN for path in store.glob(pattern)}
    files = (path for path in store.rglob("*") if path.is_file() and path not in written)
    return {str(path.relative_to(store)): digest_file(path) for path in files}


def test_it_is_recorded_and_changes_no_artifact(finished: Path) -> None:
    store, calls = finished.parent / "store", finished.parent / "calls.txt"
    before, asked = artifacts(store), calls.read_text()
    environment = {**os.environ, "FUTE_TEST_CALLS": str(calls)}
    environment.pop("PREFECT_API_URL", None)
    run = subprocess.run([sys.executable, "-c", PROGRAM, str(finished)], env=environment, cwd=REPOSITORY,
                         capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert run.returncode == 0, run.stderr
    *_, last = run.stderr.splitlines()
    assert last == "[]"
    for told in ("Which model fits which dataset", str(store / "reports" / "study-small.html")):
        assert told in run.stdout
    assert artifacts(store) == before
    assert calls.read_text() == asked

    first, second = catalog.query(store, "SELECT * EXCLUDE settings FROM runs ORDER BY created_at").records()
    assert first["flow_run_id"] is not None
    assert second["flow_run_id"] is None
    assert recorded_run(Store(store), None)["run_id"] == second["run_id"]
    for same in ("study", "flow", "state", "spaces", "failures", "report"):
        assert second[same] == first[same]
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store}/mlflow.db")
    tracked, whole = (client.get_run(row["run_id"]) for row in (second, first))
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params == whole.data.params
    assert {f.path for f in client.list_artifacts(second["run_id"])} == {
        f.path for f in client.list_artifacts(first["run_id"])
    }


def test_interrupted_it_is_recorded_all_the_same(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    study = load_study(finished)
    store = Store(shutil.copytree(finished.parent / "store", tmp_path / "store"))
    moved = study.model_copy(update={"store": str(store.root)})
    monkeypatch.setattr(unchanged, "reports_to_a_server", lambda: False)
    monkeypatch.setattr(RunRecord, "track_pages", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_unchanged(moved)
    (last,) = catalog.query(store.root, "SELECT * FROM runs ORDER BY created_at DESC LIMIT 1").records()
    assert last["state"] == "Interrupted"
    tracked = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store.root}/mlflow.db").get_run(last["run_id"])
    assert tracked.info.status == "KILLED"


@pytest.mark.parametrize(
    "missing",
    [
        "datasets/mood@*/card.parquet", "pools/*.parquet", "prompts/*.parquet", "models/tfidf~mood@*/card.parquet",
        "models/counted@*/card.parquet", "models/tfidf~mood@*/weights", "outputs/*/counted@*.parquet",
        "embeddings/*/kind=dataset/*.parquet", "embeddings/*/kind=model/*.parquet", "spaces/*.parquet",
        "frames/*/*.parquet", "members/*/*.parquet", "neighbors/*/*.parquet",
    ],
)  # fmt: skip
def test_whatever_is_missing_is_something_to_do(finished: Path, tmp_path: Path, missing: str) -> None:
    study = load_study(finished)
    store = Store(shutil.copytree(finished.parent / "store", tmp_path / "store"))
    spaces = [row["space"] for row in catalog.query(store.root, "SELECT space FROM spaces").records()]
    assert finished_spaces(study, store) == spaces
    path = next(store.root.glob(missing))
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert finished_spaces(study, store) is None


def test_what_is_embedded_anew_is_ranked_anew(finished: Path, tmp_path: Path) -> None:
    study = load_study(finished)
    store = Store(shutil.copytree(finished.parent / "store", tmp_path / "store"))
    next(store.root.glob("embeddings/*/kind=model/*.parquet")).unlink()
    assert [step.stage for step in steps(study, store) if step.state == TODO] == ["embed", "unify"]


def test_who_is_retired_comes_back_with_a_run_that_names_it(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.parent, tmp_path / "copy")
    settings = yaml.safe_load(finished.read_text()) | {"store": str(folder / "store"), "tracking": {"enabled": False}}
    study = folder / finished.name
    study.write_text(json.dumps(settings))
    store = Store(folder / "store")
    before = artifacts(store.root)
    ranked = catalog.query(store.root, "SELECT * FROM neighbors ORDER BY ALL").rows
    retire(store, [("model", "counted")], Stamp())
    there = {name for (name,) in catalog.query(store.root, "SELECT query FROM neighbors").rows}
    assert there
    assert "counted" not in there
    assert [step.stage for step in steps(load_study(study), store) if step.state == TODO] == ["embed", "unify"]
    assert pipeline(str(study), return_state=True).is_completed()
    assert catalog.query(store.root, "SELECT * FROM neighbors ORDER BY ALL").rows == ranked
    changed = {path.split("/")[0] for path, _ in artifacts(store.root).items() ^ before.items()}
    assert changed == {"retired"}


CHANGES: dict[str, Callable[[dict], None]] = {
    "another seed": lambda study: study.update(seed=1),
    "another prompt": lambda study: study["prompts"][0].update(template="Bad or good? {{text}}"),
    "another model": lambda study: study["models"][0].update(max_rows=30),
    "more neighbours": lambda study: study.update(unify={"neighbors": 3}),
    "no frame": lambda study: study.update(unify={"frame": "none"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_changed_is_something_to_do(finished: Path, change: str) -> None:
    settings = yaml.safe_load(finished.read_text())
    CHANGES[change](settings)
    changed = finished.with_name("changed.yaml")
    changed.write_text(json.dumps(settings))
    assert finished_spaces(load_study(changed), Store(finished.parent / "store")) is None


NAMED_IN = {
    "home/profiles.toml": f'active = "ours"\n[profiles.ours]\nPREFECT_API_URL = "{API}"',
    "prefect.toml": f"[api]\nurl = '{API}'",
    "pyproject.toml": f"[tool.prefect.api]\nurl = '{API}'",
    ".env": f"PREFECT_API_URL={API}",
}


def test_a_server_that_the_user_named_anywhere_is_reported_to(tmp_path: Path) -> None:
    script = "from flows.unchanged import reports_to_a_server; print(reports_to_a_server())"
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}

    def answer(folder: Path) -> str:
        there = environment | {"PREFECT_HOME": str(folder / "home"), "PYTHONPATH": str(REPOSITORY)}
        told = subprocess.run([sys.executable, "-c", script], env=there, cwd=folder, capture_output=True, text=True,
                              check=True)  # fmt: skip
        return told.stdout.strip()

    (tmp_path / "nowhere").mkdir()
    assert answer(tmp_path / "nowhere") == "False"
    for number, (place, text) in enumerate(NAMED_IN.items()):
        file = tmp_path / str(number) / place
        file.parent.mkdir(parents=True)
        file.write_text(text)
        assert answer(tmp_path / str(number)) == "True", place


def test_a_server_in_the_environment_is_reported_to() -> None:
    assert reports_to_a_server()  # that of the tests
