"""What `fute doctor` tries on the store's file system."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from storage import disk_check
from storage.disk_check import file_system_faults, free_bytes, nearest_existing
from tests.mounts import read_only


def test_a_local_disk_does_all_that_a_store_relies_on_and_is_left_as_it_was(tmp_path: Path) -> None:
    assert list(file_system_faults(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_write_permission_is_told(tmp_path: Path) -> None:
    with read_only(tmp_path):
        assert list(file_system_faults(tmp_path)) == ["no file can be written to it (Read-only file system)"]


def test_a_lock_that_others_do_not_see_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a network file system that keeps locks on each machine: here the lock is given and does not hold.
    monkeypatch.setattr(disk_check.fcntl, "lockf", lambda *_: None)
    assert list(file_system_faults(tmp_path)) == ["a lock of one process is not seen by another"]


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert list(file_system_faults(tmp_path)) == ["files cannot be locked (No locks available)"]


def test_space_is_that_of_the_folder_in_which_the_store_would_be_made(tmp_path: Path) -> None:
    assert nearest_existing(tmp_path / "a" / "b") == tmp_path
    assert free_bytes(tmp_path / "a" / "b") > 0
