"""Whose turn it is to fold: of machines on one bucket never two, also when one was killed or fell asleep."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from fute.errors import StoreError
from storage import compaction, fold_kinds, remote, removal, turns
from storage.folding import files_of
from storage.store import Store
from storage.turns import BucketTurn
from tests.storage.small_store import FOLDER, fingerprints, fold, write_into

Machine = Callable[[str], Store]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """The same store as it is seen on a machine of this name, not pulled."""
    address = f"memory://bucket-{uuid.uuid4().hex}/store"
    fsspec.filesystem("memory").mkdir(address.partition("://")[2].partition("/")[0])

    def turn_to(name: str) -> Store:
        monkeypatch.setenv("FUTE_MIRROR", str(tmp_path / name))
        return Store(address)

    monkeypatch.setattr(turns.random, "uniform", lambda *_: 0.01)
    yield turn_to
    fsspec.filesystem("memory").store.clear()


def turn_of(store: Store) -> BucketTurn:
    assert store.mirror is not None
    return BucketTurn(store.mirror, FOLDER)


def claims(store: Store) -> list[str]:
    assert store.mirror is not None
    return sorted(store.mirror.times("claims/embeddings~space=s1~kind=model"))


def older(store: Store, seconds: float) -> None:
    """As if all claims had been made before: in memory, times are those of the test."""
    from datetime import timedelta

    for path, held in fsspec.filesystem("memory").store.items():
        if "/claims/" in path:
            held.created = held.modified = held.created - timedelta(seconds=seconds)


def test_a_folder_is_folded_by_one_machine_at_a_time(machine: Machine) -> None:
    a, b = machine("a"), machine("b")
    write_into(a, range(5))
    b.pull()
    turn = turn_of(a)
    assert turn.take()
    done = compaction.fold(b, b.root / FOLDER, fold_kinds.KINDS[0], min_files=2)
    assert (done.parts, done.faults) == (0, [f"{FOLDER}: another process is folding it, or another machine"])
    assert removal.remove_folded(b, b.root / FOLDER, done, 0.0).removed == 0
    turn.renew()
    theirs = f"claims/embeddings~space=s1~kind=model/{b.root.name}-looking"
    assert a.mirror is not None
    a.mirror.write(theirs, b"")  # it looks whether it is its turn just when this one is renewed
    turn.renew()
    a.mirror.remove(theirs)
    turn.release()
    fold(b)
    assert claims(a) == []
    assert fingerprints(a.pull().root) == [f"e000{i}" for i in range(5)]


def test_a_machine_folds_what_there_is_when_its_turn_comes(machine: Machine) -> None:
    a, b = machine("a"), machine("b")
    write_into(a, range(4))
    b.pull()
    write_into(a, range(4, 6))
    compaction.fold(a, a.root / FOLDER, fold_kinds.KINDS[0], min_files=2)
    assert len(files_of(b.root / FOLDER).singles) == 4  # it knows nothing of the part yet
    compaction.fold(b, b.root / FOLDER, fold_kinds.KINDS[0], min_files=2)
    for store in (a, b, machine("c")):
        assert fingerprints(store.pull().root) == [f"e000{i}" for i in range(6)]
        assert len(files_of(store.root / FOLDER).parts) == 1


def test_no_turn_is_taken_where_there_is_nothing_to_fold(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    a = machine("a")
    write_into(a, range(5))
    monkeypatch.setattr(BucketTurn, "take", lambda _: pytest.fail("a turn was asked for"))
    done = compaction.fold(a, a.root / FOLDER, fold_kinds.KINDS[0], min_files=6)
    assert removal.remove_folded(a, a.root / FOLDER, done, 0.0) == fold_kinds.Folded(FOLDER)


def test_machines_that_write_and_fold_at_once_leave_everything_once(machine: Machine) -> None:
    stores = [machine(name) for name in ("a", "b", "c")]
    at_once = threading.Barrier(3)
    faults: list[str] = []
    folded: list[int] = []

    def works(store: Store, first: int) -> None:
        for number in range(first, 30, 3):
            write_into(store, range(number, number + 1))
            at_once.wait()
            try:
                done = compaction.fold(store, store.root / FOLDER, fold_kinds.KINDS[0], min_files=2)
                folded.append(done.parts)
                removal.remove_folded(store, store.root / FOLDER, done, 0.0)
            except Exception as exc:
                faults.append(f"{type(exc).__name__}: {exc}")

    threads = [threading.Thread(target=works, args=(store, first)) for first, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert sum(folded) >= 5
    assert fingerprints(machine("d").pull().root) == [f"e{i:04d}" for i in range(30)]
    assert claims(stores[0]) == []


def test_never_two_have_the_turn_and_of_two_that_write_before_either_looks_none(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = turn_of(machine("a")), turn_of(machine("b"))
    both = threading.Barrier(2)
    look = remote.Mirror.times
    taken: list[bool] = []

    def after_both_wrote(self: remote.Mirror, folder: str) -> dict[str, int]:
        both.wait()
        found = look(self, folder)
        both.wait()
        return found

    monkeypatch.setattr(turns, "TRIES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(remote.Mirror, "times", after_both_wrote)
        threads = [threading.Thread(target=lambda turn: taken.append(turn.take()), args=(turn,)) for turn in (a, b)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert taken == [False, False]
    assert a.take()
    assert not b.take()


def test_what_a_killed_machine_left_counts_for_an_hour_and_not_for_itself(machine: Machine) -> None:
    a, b = machine("a"), machine("b")
    assert turn_of(a).take()  # and it is killed
    again = turn_of(a)
    assert again.take()
    assert len(claims(a)) == 1
    assert not turn_of(b).take()
    older(a, turns.HELD_S + 1)
    theirs = turn_of(b)
    assert theirs.take()
    assert len(claims(a)) == 1
    with pytest.raises(StoreError, match="was not renewed in time, and another machine may have begun"):
        again.renew()


def test_a_turn_that_was_slept_through_is_not_gone_on_with(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = turn_of(machine("a"))
    assert turn.take()
    turn.renew()
    now = time.time() + turns.HELD_S / 2 + 1
    monkeypatch.setattr(turns.time, "time", lambda: now)
    with pytest.raises(StoreError, match="run the maintenance again"):
        turn.renew()
