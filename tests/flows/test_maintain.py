"""`fute maintain` and its flow: folds, indexes and removes; what cannot be done is told, and the run is not green."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from flows.maintain import maintain
from storage import catalog, nearest_index
from storage.folding import files_of
from storage.store import Store
from storage.turns import BucketTurn
from tasks.maintain import indexes_due
from tests.flows.small_study import write_small_study
from tests.storage.small_store import FOLDER, fingerprints, fold, write, write_into


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_maintain_folds_indexes_and_removes_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    write(tmp_path, range(60))
    expected = fingerprints(tmp_path)
    options = ("--store", str(tmp_path), "--grace", "0", "--min-files", "2", "--index-from", "50")
    first = call("maintain", *options)
    assert first.exit_code == 0, first.output
    assert f"{FOLDER}: 60 files folded into 1, 60 removed" in first.output
    assert "index of s1, model: 60 rows, recall@10 " in first.output
    assert list((tmp_path / FOLDER).glob("*.parquet")) == []
    assert fingerprints(tmp_path) == expected
    answer = json.loads(call("nearest", "m7", "-k", "3", "--store", str(tmp_path), "--json").stdout)
    assert [row["rank"] for row in answer] == [1, 2, 3]
    assert {row["found_by"] for row in answer} == {"index"}

    again = call("maintain", *options)
    assert again.exit_code == 0, again.output
    assert "nothing to do" in again.output
    runs = catalog.query(tmp_path, "SELECT flow, state, flow_run_id, report FROM runs ORDER BY created_at").rows
    assert [run[:2] for run in runs] == [("maintain", "Completed")] * 2
    assert runs[0][2] != runs[1][2]
    assert json.loads(runs[0][3])["folders"][0]["removed"] == 60


def test_a_file_that_cannot_be_folded_is_a_failure_and_the_rest_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    write(store, range(20))
    (store / FOLDER / "torn.parquet").write_bytes(b"PAR1 half")
    study = write_small_study(tmp_path)
    monkeypatch.setattr("flows.maintain.available", lambda: False)  # no faiss: no index, and no failure either
    state = maintain(str(study), grace_s=0.0, index_from=10, return_state=True)
    assert (state.name, state.is_completed()) == ("CompletedWithFailures", False)
    assert "torn.parquet" in str(state.message)
    assert sorted(p.name for p in (store / FOLDER).iterdir()) == ["folded", "torn.parquet"]
    assert not nearest_index.index_folder(write(store, range(0)), "s1", "model").exists()
    # The torn file is in the way of every reader: it is for a person to look at, and nothing else is lost.
    (store / FOLDER / "torn.parquet").unlink()
    assert len(fingerprints(store)) == 20
    assert catalog.query(store, "SELECT study, state FROM runs").rows == [("small", "CompletedWithFailures")]


def test_a_damaged_part_is_a_failure_and_keeps_no_other_kind_from_its_index(tmp_path: Path) -> None:
    store = write(tmp_path, range(60))
    fold(store)
    write(tmp_path, range(60), kind="dataset")
    (torn,) = files_of(tmp_path / FOLDER).parts
    torn.write_bytes(torn.read_bytes()[:-10])
    assert [due.kind for due in indexes_due(str(tmp_path), 50)] == ["dataset"]
    state = maintain(store=str(tmp_path), grace_s=0.0, index_from=50, return_state=True)
    assert state.name == "CompletedWithFailures"
    assert torn.name in str(state.message)
    assert not nearest_index.index_folder(store, "s1", "model").exists()
    assert nearest_index.newest_card(store, "s1", "dataset") is not None


def test_machines_that_share_a_bucket_take_turns_on_the_command_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"memory://{uuid.uuid4().hex}/store"
    options = ("--store", address, "--grace", "0")
    monkeypatch.setenv("FUTE_MIRROR", str(tmp_path / "first"))
    first = Store(address)
    write_into(first, range(20))
    assert first.mirror is not None
    turn = BucketTurn(first.mirror, FOLDER)
    assert turn.take()
    monkeypatch.setenv("FUTE_MIRROR", str(tmp_path / "second"))
    early = call("maintain", *options)
    assert early.exit_code == 3, early.output
    assert f"warning: {FOLDER} (fold): " in early.output
    assert files_of(Store(address).root / FOLDER).parts == ()
    turn.release()
    write_into(first, range(20, 25))  # not in the second's mirror before its turn
    done = call("maintain", *options)
    assert done.exit_code == 0, done.output
    assert f"{FOLDER}: 25 files folded into 1, 25 removed" in done.output
    assert len(fingerprints(first.pull().root)) == 25
    monkeypatch.setenv("FUTE_MIRROR", str(tmp_path / "third"))
    assert len(fingerprints(Store(address).pull().root)) == 25


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
