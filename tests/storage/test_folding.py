"""Folding small files: nothing is lost and nothing is seen twice, beside readers and writers, killed at any moment."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fute.errors import StoreError
from fute.types import TaskEmbedding
from storage import catalog, files, folding, nearest
from storage.drift import DriftStore
from storage.parts import files_of, parts_of, singles_of
from storage.schema_version import CURRENT, stored_version
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from tests.storage.small_store import FOLDER, fingerprints, fold, vector, write
from tests.storage.test_store import embedding_row


def test_folded_embeddings_are_found_as_before(tmp_path: Path) -> None:
    store = write(tmp_path, range(30))
    before = catalog.query(tmp_path, "SELECT * FROM embeddings ORDER BY fingerprint")
    done = fold(store)
    assert (done.files, done.parts) == (30, 1)
    assert singles_of(tmp_path / FOLDER) == []
    assert catalog.query(tmp_path, "SELECT * FROM embeddings ORDER BY fingerprint") == before
    vectors = VectorStore(store)
    assert vectors.has("s1", "model", "e0007")
    assert not vectors.has("s1", "model", "e0030")
    np.testing.assert_array_equal(vectors.get("s1", "model", "e0007").vector, vector(7))
    assert vectors.get("s1", "model", "e0007").row["run_id"] == "run"
    assert [e.subject for e in vectors.population("s1")] == sorted(f"m{i}" for i in range(30))
    assert stored_version(tmp_path) == CURRENT
    write(tmp_path, range(31))  # what is folded is not written again
    assert [path.name for path in singles_of(tmp_path / FOLDER)] == ["e0030.parquet"]


def test_few_files_are_left_alone_and_parts_stay_below_their_size(tmp_path: Path) -> None:
    store, folder = write(tmp_path, range(25)), tmp_path / FOLDER
    assert fold(store, min_files=26).parts == 0
    assert stored_version(tmp_path) == 1  # an earlier fute reads it still
    one = files.read_parquet(singles_of(folder)[0]).nbytes
    folding.fold(store, folder, min_files=4, part_bytes=10 * one)
    assert sorted(pq.read_metadata(path).num_rows for path in parts_of(folder)) == [5, 10, 10]
    assert fingerprints(tmp_path) == [f"e{i:04d}" for i in range(25)]


def test_files_of_an_earlier_fute_are_folded_with_the_others(tmp_path: Path) -> None:
    store = write(tmp_path, range(4))
    path = VectorStore(store).path("s1", "model", "e0000")
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.drop_columns(["git_commit"]).replace_schema_metadata(table.schema.metadata), path)
    fold(store)
    found = catalog.query(tmp_path, "SELECT fingerprint, git_commit IS NULL FROM embeddings ORDER BY 1").rows
    assert found == [(f"e{i:04d}", i == 0) for i in range(4)]


def test_runs_are_folded_and_of_one_that_was_tried_again_the_last_record_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def put(state: str, *numbers: int) -> None:
        for i in numbers:
            store.put_run({"study": "s", "flow": "embed", "state": state, "seconds": np.nan}, Stamp(None, f"f{i}"))

    put("Failed", 0, 1, 2, 3)
    assert fold(store, "runs").files == 4
    put("Completed", 3)
    for _ in range(2):
        shown = catalog.query(tmp_path, "SELECT flow_run_id, state FROM runs WHERE flow_run_id < 'f4'").rows
        assert sorted(shown) == [("f0", "Failed"), ("f1", "Failed"), ("f2", "Failed"), ("f3", "Completed")]
        assert [store.run_state(run) for run in ("f2", "f3", "f9")] == ["Failed", "Completed", None]
        put("Failed", 4)
        assert fold(store, "runs").files == 2
        put("Failed", 4)


def test_checks_of_drift_are_folded_and_count_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for _ in range(3):
        row = {"study": "s", "model": "m", "model_ref": "m@1", "p_value": np.nan, "panel_values": [np.nan] * 2}
        DriftStore(store).put_check(row, Stamp())
    (folder,) = (tmp_path / "drift" / "checks").iterdir()
    shutil.copytree(folder, tmp_path / "kept")
    fold(store, folder.relative_to(tmp_path).as_posix())
    shutil.copytree(tmp_path / "kept", folder, dirs_exist_ok=True)  # as of a fold that was killed
    assert len(files_of(folder)) == 4
    assert catalog.query(tmp_path, "SELECT count(*) FROM drift").rows == [(3,)]


# ----------------------------------------------------------------------------------------------------------- damage


def test_a_damaged_single_is_named_and_left_and_the_others_are_folded(tmp_path: Path) -> None:
    store, folder = write(tmp_path, range(5)), tmp_path / FOLDER
    (folder / "torn.parquet").write_bytes(b"PAR1 half")
    done = folding.fold(store, folder, min_files=2)
    assert (done.files, done.parts, len(done.faults)) == (5, 1, 1)
    assert "torn.parquet" in done.faults[0]
    assert folding.damaged(folder) == done.faults
    assert singles_of(folder) == [folder / "torn.parquet"]


def test_singles_are_kept_when_their_part_reads_otherwise_than_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = write(tmp_path, range(5)), tmp_path / FOLDER

    def written_wrong(scratch: files.Scratch, target: Path, table: pa.Table, **options: int) -> None:
        files.write_parquet(scratch, target, table.slice(1), **options)

    def torn(scratch: files.Scratch, target: Path, table: pa.Table, **options: int) -> None:
        files.write_parquet(scratch, target, table, **options)
        os.truncate(target, target.stat().st_size - 10)

    for wrong, told in ((written_wrong, "reads otherwise than it was written"), (torn, "cannot be read")):
        monkeypatch.setattr(folding, "write_parquet", wrong)
        done = folding.fold(store, folder, min_files=2)
        assert (done.parts, len(done.faults)) == (0, 1)
        assert told in done.faults[0]
        assert len(singles_of(folder)) == len(files_of(folder)) == 5


def test_a_damaged_part_is_named_by_who_reads_it(tmp_path: Path) -> None:
    store, folder = write(tmp_path, range(4)), tmp_path / FOLDER
    fold(store)
    (part,) = parts_of(folder)
    os.truncate(part, part.stat().st_size - 100)
    vectors = VectorStore(Store(tmp_path))
    readers: list[Callable[[], object]] = [
        lambda: vectors.has("s1", "model", "e0001"), lambda: vectors.get("s1", "model", "e0001"),
        lambda: vectors.population("s1"), lambda: nearest.nearest(store, "m1"), lambda: fingerprints(tmp_path),
    ]  # fmt: skip
    for read in readers:
        with pytest.raises(StoreError, match=f"{part.name}.*delete it and run the study again"):
            read()
    assert len(folding.damaged(folder)) == 1


# ------------------------------------------------------------------------------------------- killed, and two at once


def test_killed_before_any_change_of_the_disk_nothing_is_lost_or_seen_twice(tmp_path: Path) -> None:
    expected = [f"e{i:04d}" for i in range(5)]
    step, killed = 0, True
    while killed:
        root = tmp_path / str(step)
        store = write(root, range(5))
        killed = _killed_at(step, store)
        vectors = VectorStore(store)
        assert fingerprints(root) == expected, f"killed before change {step}"
        assert [e.fingerprint for e in vectors.population("s1")] == expected
        assert all(vectors.has("s1", "model", each) for each in expected)
        fold(store, min_files=1)
        assert singles_of(root / FOLDER) == []
        assert [e.fingerprint for e in vectors.population("s1")] == expected, f"after the next one, {step}"
        step += 1
    assert step > 7  # a part and five singles


def _killed_at(step: int, store: Store) -> bool:
    """Fold in a child that is killed just before its step-th change of the disk; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = step

        def counted(call):  # type: ignore[no-untyped-def]
            def change(*arguments, **options):  # type: ignore[no-untyped-def]
                nonlocal left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return call(*arguments, **options)

            return change

        try:
            files.os.replace = counted(os.replace)
            files.os.fsync = counted(os.fsync)
            Path.unlink = counted(Path.unlink)  # type: ignore[method-assign]
            fold(store)
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_folds_killed_again_and_again_beside_readers_and_a_writer(tmp_path: Path) -> None:
    store = write(tmp_path, range(10))
    vectors = VectorStore(store)
    fork = multiprocessing.get_context("fork")
    written, ended, looks = fork.Value("i", 10), fork.Event(), fork.Array("i", 3)
    faults = fork.Queue()
    query = "SELECT fingerprint FROM embeddings WHERE len(vector) = 4"

    def read(number: int) -> None:
        own = VectorStore(Store(tmp_path))
        try:
            with catalog.Catalog(tmp_path) as opened:  # its files go away under it
                ways: list[Callable[[], list[str]]] = [
                    lambda: [e.fingerprint for e in own.population("s1")],
                    lambda: [row[0] for row in catalog.query(tmp_path, query).rows],
                    lambda: [row[0] for row in opened.query(query).rows],
                ]
                while not ended.is_set():
                    known = written.value if number < 2 else 10
                    found = ways[number]()
                    if len(found) != len(set(found)) or len(found) < known:
                        faults.put(f"{number}: {len(found)} rows, {len(set(found))} embeddings, {known} written")
                    if own.get("s1", "model", "e0003").subject != "m3" or not own.has("s1", "model", "e0009"):
                        faults.put("e0003 or e0009 is lost")
                    looks[number] += 1
                    time.sleep(0.02)
        except Exception as exc:
            faults.put(f"{number}: {type(exc).__name__}: {exc}")

    readers = [fork.Process(target=read, args=(number,)) for number in range(3)]
    for reader in readers:
        reader.start()
    rng, kills, latest = random.Random(0), 0, time.monotonic() + 60
    while kills < 10 and time.monotonic() < latest and faults.empty():
        for i in range(written.value, written.value + 4):
            vectors.put(embedding_row(f"m{i}", f"e{i:04d}"), TaskEmbedding(vector(i)), Stamp())
            written.value += 1
        kills += _killed_at(rng.randrange(14), store)
        # No faster than it is read: a query whose files go away is asked again, and not for ever.
        seen, until = list(looks), time.monotonic() + 10
        while any(now == before for now, before in zip(looks, seen, strict=True)) and time.monotonic() < until:
            time.sleep(0.01)
    ended.set()
    for reader in readers:
        reader.join()
    assert faults.empty(), faults.get()
    assert kills >= 4  # on however busy a machine
    assert min(looks) >= 1
    fold(store, min_files=1)
    assert singles_of(tmp_path / FOLDER) == []
    assert fingerprints(tmp_path) == [f"e{i:04d}" for i in range(written.value)]


def test_a_folder_that_is_being_folded_is_left_and_others_are_not(tmp_path: Path) -> None:
    store = write(write(tmp_path, range(20)).root, range(20), kind="dataset")
    other = FOLDER.replace("model", "dataset")
    (tmp_path / "locks").mkdir()
    with (tmp_path / "locks" / FOLDER.replace("/", "~")).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        threads = [threading.Thread(target=fold, args=(store, folder)) for folder in (FOLDER, other) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(singles_of(tmp_path / FOLDER)) == 20
    assert len(files_of(tmp_path / other)) == 1
    assert fold(store).files == 20
