"""MLflow: a tracker that is off or down is reported and stops nothing."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

import mlflow
import pytest

from storage import tracker as tracking
from storage.tracker import GAP_TAG, Tracker, default_uri, shown, without_secrets


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


def test_runs_of_an_ended_process_are_ended_by_the_next_tracker_and_those_of_a_living_one_are_not(
    tmp_path: Path,
) -> None:
    import mlflow

    script = (
        "import os, sys; from pathlib import Path; from storage.tracker import Tracker, default_uri\n"
        "folder = Path(sys.argv[1]); t = Tracker(default_uri(folder), 'e', folder / 'runs')\n"
        "for name in ('green', 'red', 'killed'): print(t.start(name, tags={'prefect.flow_run_id': name}), flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    # Two of them had ended, but their server was away when they said so.
    known = {"green": "Completed", "red": "Failed: StoreError"}
    living = str(Tracker(default_uri(tmp_path), "e", tmp_path / "runs", known.get).start("living"))
    Tracker(default_uri(tmp_path), "e", tmp_path / "runs", known.get)
    client = mlflow.MlflowClient(tracking_uri=default_uri(tmp_path))
    runs = [client.get_run(run_id) for run_id in done.stdout.split()[-3:]]
    assert [run.info.status for run in runs] == ["FINISHED", "FAILED", "KILLED"]
    assert runs[0].data.tags[GAP_TAG] == "ended unseen as Completed; the store has what is missing"
    assert GAP_TAG not in runs[2].data.tags
    assert client.get_run(living).info.status == "RUNNING"


@pytest.mark.parametrize("take", [shutil.copytree, shutil.move])
def test_a_store_that_was_moved_or_copied_keeps_its_artifacts_with_it(
    tmp_path: Path, take: Callable[[Path, Path], object]
) -> None:
    def tracked(store: Path, text: str) -> str | None:
        tracker = Tracker(default_uri(store), "e", store / "mlruns")
        tracker.text(run := tracker.start("r"), text, "told.txt")
        tracker.end(run)
        assert tracker.gap is None
        return run

    before = tracked(tmp_path / "a store", "before")
    take(tmp_path / "a store", tmp_path / "b")
    there = {path for path in (tmp_path / "a store").rglob("*") if path.is_file()}
    after = tracked(tmp_path / "b", "after")
    client = mlflow.MlflowClient(tracking_uri=default_uri(tmp_path / "b"))
    for run, text in ((before, "before"), (after, "after")):
        place = Path(unquote(urlparse(client.get_run(run).info.artifact_uri).path))
        assert place.is_relative_to(tmp_path / "b")
        assert (place / "told.txt").read_text() == text
    assert there == {path for path in (tmp_path / "a store").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("http://me:sk-canary@127.0.0.1:9", "http://127.0.0.1:9"),
        ("http://me:p@sk-canary@127.0.0.1:9/", "http://127.0.0.1:9/"),
        ("http://me:ab/sk-canary@127.0.0.1:9", "http://127.0.0.1:9"),
        ("nosuch://127.0.0.1:9/x?user=me&password=sk-canary", "nosuch://127.0.0.1:9/x"),
        ("nosuch://127.0.0.1:9/x?user=me@here&password=sk-canary", "nosuch://..."),
    ],
)
def test_a_password_in_the_servers_address_is_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, uri: str, place: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING, logger="storage.tracker"):
        tracker = Tracker(uri, "e", tmp_path)
    assert tracker.gap is not None
    assert tracker.gap.startswith(f"{place}: ")
    assert f"MLflow at {place} does not work" in caplog.text
    assert "sk-canary" not in caplog.text + tracker.gap


def test_an_error_is_told_without_the_parts_of_a_password_that_it_quotes() -> None:
    uri = "postgresql+psycopg2://fute:ab/cd%24SECRET@db.internal:5432/mlflow?sslmode=require&sslpassword=SECRET2"
    error = f"{uri}: cannot parse 'cd%24SECRET', cd$SECRET or SECRET2 of db.internal, by way of http://a:b@proxy"
    told = without_secrets(error, uri)
    assert told == (
        "postgresql+psycopg2://db.internal:5432/mlflow: cannot parse '***', *** or *** of db.internal, "
        "by way of http://proxy"
    )
    sqlite = "sqlite:////home/me@work/store/mlflow.db"
    assert shown(sqlite) == without_secrets(sqlite, sqlite) == sqlite


def test_only_a_server_has_a_page_for_an_artifact_and_its_address_holds_no_password(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    tracker = Tracker(default_uri(tmp_path), "fute", tmp_path / "artifacts")
    run_id = tracker.start("a run")
    assert tracker.address_of(run_id, "page.html") is None
    tracker.uri = "https://me:hush@mlflow.example/team/"
    address = tracker.address_of(run_id, "page.html")
    experiment = MlflowClient(default_uri(tmp_path)).get_run(str(run_id)).info.experiment_id
    assert address == f"https://mlflow.example/team/#/experiments/{experiment}/runs/{run_id}/artifacts/page.html"
    assert tracker.address_of(None, "page.html") is None


def test_runs_that_begin_at_once_share_the_experiment_that_one_of_them_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    first = Tracker(default_uri(tmp_path), "e", tmp_path / "runs").start("first")
    look = mlflow.MlflowClient.get_experiment_by_name
    looks: list[str] = []

    def too_early(client: mlflow.MlflowClient, name: str) -> object:
        looks.append(name)
        return None if len(looks) == 1 else look(client, name)  # the other made it between the look and the making

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", too_early)
    second = Tracker(default_uri(tmp_path), "e", tmp_path / "runs")
    assert second.gap is None
    run = second.start("second")
    client = mlflow.MlflowClient(tracking_uri=default_uri(tmp_path))
    assert client.get_run(str(run)).info.experiment_id == client.get_run(str(first)).info.experiment_id
    assert looks == ["e", "e"]


def test_mlflows_file_is_there_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path) -> None:
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tracking, "_make_tables", killed)
        with pytest.raises(KeyboardInterrupt):
            Tracker(default_uri(tmp_path), "e", tmp_path / "runs")
        assert [path.name for path in tmp_path.rglob("*")] == ["tmp"]
    tracker = Tracker(default_uri(tmp_path), "e", tmp_path / "runs")
    assert tracker.start("run") is not None
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mlflow.db", "tmp"]


def test_a_file_that_another_run_made_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mlflow.db"

    def make(made: Path, table: str = "ours") -> None:
        with closing(sqlite3.connect(made)) as db:
            db.execute(f"CREATE TABLE {table} (a)")

    def slow(made: Path) -> None:
        monkeypatch.setattr(tracking, "_make_tables", lambda other: make(other, "theirs"))
        tracking.make_whole(path)
        make(made)

    monkeypatch.setattr(tracking, "_make_tables", slow)
    tracking.make_whole(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
