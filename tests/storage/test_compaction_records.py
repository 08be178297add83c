"""Folding records of runs and of checks, which may be written again."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from storage import catalog, compaction, files, fold_kinds, removal
from storage.drift import DriftStore
from storage.folding import files_of
from storage.stamp import Stamp
from storage.store import Store

RUNS, CHECKS = fold_kinds.KINDS[1:]


def write_runs(root: Path, numbers: range, state: str = "Completed", *, settled: bool = True) -> Store:
    store = Store(root)
    for i in numbers:
        store.put_run({"study": "s", "flow": "pipeline", "state": state}, Stamp(None, f"r{i:02d}"))
        if settled:
            age(root / "runs" / f"r{i:02d}.parquet")
    return store


def age(path: Path) -> None:
    os.utime(path, (time.time() - 2 * fold_kinds.SETTLED_S,) * 2)


def fold_runs(store: Store, *, grace_s: float = 0.0, min_files: int = 2) -> fold_kinds.Folded:
    done = compaction.fold(store, store.root / "runs", RUNS, min_files=min_files)
    return removal.remove_folded(store, store.root / "runs", done, grace_s)


def states(root: Path, i: int) -> list[str]:
    """Of all records of a run in the files that count, the earliest first."""
    tables = [files.read_parquet(path) for path in files_of(root / "runs").live]
    found = [row for table in tables for row in table.to_pylist() if row["flow_run_id"] == f"r{i:02d}"]
    return [row["state"] for row in sorted(found, key=lambda row: row["created_at"])]


@pytest.mark.parametrize("while_folding", [True, False])
@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("room", [4, 100])
def test_a_run_that_was_retried_after_it_was_folded_is_neither_hidden_nor_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, others: int, while_folding: bool
) -> None:
    monkeypatch.setattr(compaction, "RECORDS_IN_A_PART", room)
    store = write_runs(tmp_path, range(8), "Failed")
    fold_runs(store, grace_s=1000)
    write_runs(tmp_path, range(3, 4), "Completed", settled=False)
    if while_folding:  # after it was read, and before the part was there: its time does not tell
        for part in (tmp_path / "runs" / "folded").glob("*.parquet"):
            os.utime(part, (time.time() + 10,) * 2)
            os.utime(part.with_suffix(".replaces"), (time.time() - 10,) * 2)
    else:
        assert states(tmp_path, 3) == ["Failed", "Completed"]
        assert catalog.query(tmp_path, "SELECT state FROM runs WHERE flow_run_id = 'r03'").rows == [("Completed",)]
    done = removal.remove_folded(store, tmp_path / "runs", fold_kinds.Folded("runs"), -20.0)
    assert (done.removed, done.faults) == (7, [])
    assert states(tmp_path, 3) == ["Failed", "Completed"]
    assert store.run_state("r03") == "Completed"
    assert fold_runs(store, min_files=100).files == 0  # it may be retried once more
    age(tmp_path / "runs" / "r03.parquet")
    write_runs(tmp_path, range(8, 8 + others))
    for _ in range(2):
        assert fold_runs(store, min_files=100).faults == []
    assert states(tmp_path, 3) == ["Completed"]
    assert catalog.query(tmp_path, "SELECT count(*), count(DISTINCT flow_run_id) FROM runs").rows == [(8 + others,) * 2]
    assert list((tmp_path / "runs").glob("*.parquet")) == []
    assert fold_runs(store, min_files=100).files == 0


def test_a_retried_run_stays_seen_when_its_earlier_record_is_folded_again(tmp_path: Path) -> None:
    store = write_runs(tmp_path, range(4), "Failed")
    fold_runs(store, grace_s=1000)
    write_runs(tmp_path, range(3, 4), "Completed", settled=False)
    write_runs(tmp_path, range(4, 8))
    fold_runs(store, grace_s=1000)
    assert len(files_of(tmp_path / "runs").parts) == 1
    assert states(tmp_path, 3)[-1] == "Completed"
    fold_runs(store)
    assert states(tmp_path, 3)[-1] == "Completed"


def test_an_earlier_record_is_kept_while_the_later_one_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "RECORDS_IN_A_PART", 4)
    store = write_runs(tmp_path, range(4), "Failed")
    fold_runs(store)
    write_runs(tmp_path, range(3, 4), "Completed")
    write_runs(tmp_path, range(4, 7))
    monkeypatch.setattr(compaction, "_with_earlier_rows", lambda *_: [])  # as an earlier fute left it
    (earlier,) = files_of(tmp_path / "runs").parts
    fold_runs(store)
    monkeypatch.undo()
    monkeypatch.setattr(compaction, "RECORDS_IN_A_PART", 4)
    assert states(tmp_path, 3) == ["Failed", "Completed"]
    (later,) = set(files_of(tmp_path / "runs").parts) - {earlier}
    whole = later.read_bytes()
    column = next(c for c in range(30) if pq.read_metadata(later).row_group(0).column(c).path_in_schema == "state")
    place = pq.read_metadata(later).row_group(0).column(column)
    with later.open("r+b") as file:
        file.seek(place.dictionary_page_offset)
        file.write(b"\xff" * place.total_compressed_size)
    done = fold_runs(store)
    assert later.name in done.faults[0]
    assert earlier in files_of(tmp_path / "runs").parts
    later.write_bytes(whole)  # a copy was put back
    fold_runs(store)
    assert states(tmp_path, 3) == ["Completed"]


def put_checks(root: Path, numbers: range) -> None:
    for i in numbers:
        row = {"study": "s", "model": "m", "model_ref": "m@1", "pool": str(i)}
        DriftStore(Store(root)).put_check(row, np.zeros((1, 2), np.float32), np.ones(1, bool), Stamp())
    for path in (root / "drift" / "checks").glob("*/*.parquet"):
        age(path)


@pytest.mark.parametrize("room", [24, 100_000])
@pytest.mark.parametrize("view", ["runs", "drift"])
def test_what_two_machines_have_folded_differently_is_counted_once_after_the_next_folding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view: str, room: int
) -> None:
    monkeypatch.setattr(compaction, "RECORDS_IN_A_PART", room)
    write_more = write_runs if view == "runs" else put_checks
    first, second = tmp_path / "first", tmp_path / "second"

    def fold_all(root: Path, min_files: int = 2) -> None:
        store = Store(root)
        for folder, kind in fold_kinds.folders(store):
            done = compaction.fold(store, folder, kind, min_files=min_files)
            assert removal.remove_folded(store, folder, done, 0.0).faults == []

    write_more(first, range(20))
    shutil.copytree(first, second)
    fold_all(first)  # its part waits to be sent
    write_more(second, range(20, 21))
    fold_all(second)
    for part in first.rglob("folded/*.parquet"):
        shutil.copy2(part, second / part.relative_to(first))
    what = "flow_run_id" if view == "runs" else "pool"
    query = f"SELECT count(*), count(DISTINCT {what}) FROM {view}"
    assert catalog.query(second, query).rows == [(41, 21)]
    fold_all(second, min_files=100)
    assert catalog.query(second, query).rows == [(21, 21)]
    write_more(second, range(21, 25))
    fold_all(second)
    assert catalog.query(second, query).rows == [(25, 25)]
