"""`fute maintain` and its flow: what cannot be done is told, and the run is not green."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from flows.maintain import maintain
from storage import catalog
from storage.parts import parts_of
from tests.flows.small_study import write_small_study
from tests.storage.small_store import FOLDER, fingerprints, fold, write


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_maintain_folds_a_store_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    write(tmp_path, range(60))
    expected = fingerprints(tmp_path)
    first = call("maintain", "--store", str(tmp_path))
    assert first.exit_code == 0, first.output
    assert f"{FOLDER}: 60 files folded into 1" in first.output
    assert list((tmp_path / FOLDER).glob("*.parquet")) == []
    assert fingerprints(tmp_path) == expected
    answer = json.loads(call("nearest", "m7", "-k", "3", "--store", str(tmp_path), "--json").stdout)
    assert [row["rank"] for row in answer] == [1, 2, 3]

    again = call("maintain", "--store", str(tmp_path), "--min-files", "2")
    assert again.exit_code == 0, again.output
    assert "nothing to do" in again.output
    runs = catalog.query(tmp_path, "SELECT flow, state, flow_run_id, report FROM runs ORDER BY created_at").rows
    assert [run[:2] for run in runs] == [("maintain", "Completed")] * 2
    assert runs[0][2] != runs[1][2]
    assert json.loads(runs[0][3])["folders"][0]["files"] == 60


def test_damaged_files_are_failures_and_the_rest_is_done(tmp_path: Path) -> None:
    store = write_small_study(tmp_path).parent / "store"
    fold(write(store, range(20), kind="dataset"), FOLDER.replace("model", "dataset"))
    (part,) = parts_of(store / FOLDER.replace("model", "dataset"))
    part.write_bytes(part.read_bytes()[:-10])
    write(store, range(20))
    torn = store / FOLDER / "torn.parquet"
    torn.write_bytes(b"PAR1 half")
    state = maintain(str(tmp_path / "study.yaml"), return_state=True)
    assert (state.name, state.is_completed()) == ("CompletedWithFailures", False)
    assert "torn.parquet" in str(state.message)
    assert part.name in str(state.message)
    assert sorted(p.name for p in (store / FOLDER).iterdir()) == ["folded", "torn.parquet"]
    # They are in the way of every reader: they are for a person to look at, and nothing else is lost.
    torn.unlink()
    part.unlink()
    assert len(fingerprints(store)) == 20
    assert catalog.query(store, "SELECT study, state FROM runs").rows == [("small", "CompletedWithFailures")]


def test_a_store_must_be_there_and_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "wrong"
    for name in ("models", "datasets", "reports", "notes"):  # a folder of somebody's own
        (wrong / name).mkdir(parents=True)
        (wrong / name / "data.parquet").write_bytes(b"not fute's")
    before = sorted(tmp_path.rglob("*"))
    refused = call("maintain", "--store", str(wrong))
    assert refused.exit_code == 1
    assert f"error: no store at {wrong}, so nothing to maintain; give another place (--store)" in refused.output
    monkeypatch.setenv("FUTE_MIRROR", str(tmp_path / "mirrors"))
    bucket = uuid.uuid4().hex
    fsspec.filesystem("memory").mkdir(bucket)
    assert f"no store at memory://{bucket}/none" in call("maintain", "--store", f"memory://{bucket}/none").output
    assert fsspec.filesystem("memory").find(f"/{bucket}") == []
    assert sorted(tmp_path.rglob("*")) == before
    study = write_small_study(tmp_path / "study")  # as it is deployed, in a team server's first week
    for arguments, told in ((str(study),), "the deployment pipeline/nightly"), ((), "a study or a store"):
        state = maintain(*arguments, return_state=True)
        assert state.is_failed()
        assert told in str(state.result(raise_on_failure=False))
    assert not (study.parent / "store").exists()
