"""Folding that is killed at any step, and beside readers and writers."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from fute.types import TaskEmbedding
from storage import catalog, compaction, files
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from tests.storage.small_store import FOLDER, fingerprints, fold, vector, write
from tests.storage.test_store import embedding_row

STEPS = ("replace", "unlink", "fsync")


def killed_at(step: int, store: Store) -> bool:
    """Fold in a child process that is killed just before its step-th change of the disk; whether it came so far."""
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
            fold(store, part_bytes=4 * (4 * 4 + compaction.ROW_BYTES))
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_killed_at_any_step_nothing_is_lost_or_seen_twice_and_the_next_one_finishes(tmp_path: Path) -> None:
    expected = [f"e{i:04d}" for i in range(10)]
    step, killed = 0, True
    while killed:
        root = tmp_path / str(step)
        store = write(root, range(6))
        fold(store, part_bytes=4 * (4 * 4 + compaction.ROW_BYTES))  # parts to be folded again
        write(root, range(10))
        killed = killed_at(step, store)
        vectors = VectorStore(store)
        assert fingerprints(root) == expected, f"killed before change {step}"
        assert sorted(e.fingerprint for e in vectors.population("s1")) == expected
        assert all(vectors.has("s1", "model", f) for f in expected)
        fold(store)
        assert fingerprints(root) == expected, f"after the next one, killed before change {step}"
        assert list((root / FOLDER).glob("*.parquet")) == []
        step += 1
    assert step > 15


# ----------------------------------------------------------------------------------------- beside readers and writers


def test_a_catalog_that_was_opened_before_is_opened_anew_when_its_files_are_gone(tmp_path: Path) -> None:
    store = write(tmp_path, range(10))
    with catalog.Catalog(tmp_path) as opened:
        fold(store)
        assert opened.query("SELECT count(*) FROM embeddings").rows == [(10,)]
        write(tmp_path, range(10, 12))
        fold(store)
        assert opened.query("SELECT max(fingerprint) FROM embeddings WHERE len(vector) = 4").rows == [("e0011",)]


def test_readers_and_writers_at_work_see_everything_once(tmp_path: Path) -> None:
    store = write(tmp_path, range(40))
    written = threading.Event()
    faults: list[str] = []
    counts: list[int] = []
    folded = 0

    def write_more() -> None:
        vectors = VectorStore(Store(tmp_path))
        latest = time.monotonic() + 60
        try:
            for i in range(40, 160):
                vectors.put(embedding_row(f"m{i}", f"e{i:04d}"), TaskEmbedding(vector(i)), Stamp())
                # No faster than it is read, on however busy a machine.
                while (len(counts) < (i - 40) // 12 or folded < (i - 40) // 25) and time.monotonic() < latest:
                    time.sleep(0.01)
        except Exception as exc:
            faults.append(f"writing: {type(exc).__name__}: {exc}")
        finally:
            written.set()

    def read() -> None:
        last = 0
        vectors = VectorStore(Store(tmp_path))
        try:
            with catalog.Catalog(tmp_path) as kept_open:
                while not written.is_set():
                    ((n, distinct),) = catalog.query(
                        tmp_path, "SELECT count(*), count(DISTINCT fingerprint) FROM embeddings WHERE len(vector) = 4"
                    ).rows
                    if n != distinct or n < last:
                        faults.append(f"{n} rows, {distinct} embeddings, {last} before")
                    last = n
                    counts.append(n)
                    # One that was opened before: its files go away under it.
                    ((n, distinct),) = kept_open.query(
                        "SELECT count(*), count(DISTINCT fingerprint) FROM embeddings WHERE len(vector) = 4"
                    ).rows
                    if n != distinct or n < 40:
                        faults.append(f"kept open: {n} rows, {distinct} embeddings")
                    if not vectors.has("s1", "model", "e0003") or vectors.get("s1", "model", "e0003").subject != "m3":
                        faults.append("e0003 is lost")
                    if len(vectors.population("s1")) < n:
                        faults.append("the population is too small")
        except Exception as exc:
            faults.append(f"{type(exc).__name__}: {exc}")

    threads = [threading.Thread(target=write_more), *(threading.Thread(target=read) for _ in range(3))]
    for thread in threads:
        thread.start()
    while not written.is_set():
        fold(store, min_files=3, grace_s=0.5)  # as long as a reader needs here from listing to reading
        folded += 1
    for thread in threads:
        thread.join()
    fold(store)
    assert faults == []
    assert folded > 3
    assert len(counts) > 5
    assert fingerprints(tmp_path) == [f"e{i:04d}" for i in range(160)]
