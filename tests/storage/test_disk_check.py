"""What `fute doctor` tries on the store's file system."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from storage import disk_check
from storage.disk_check import file_system_fault, nearest_existing
from tests.mounts import read_only


def test_a_local_disk_is_fine_and_left_as_it_was(tmp_path: Path) -> None:
    assert file_system_fault(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_write_permission_is_told(tmp_path: Path) -> None:
    with read_only(tmp_path):
        assert file_system_fault(tmp_path) == "no file can be written to it (Read-only file system)"


def test_a_file_system_on_which_sqlite_does_not_work_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise sqlite3.OperationalError("locking protocol")

    monkeypatch.setattr(disk_check.sqlite3, "connect", refuse)
    assert file_system_fault(tmp_path) == "SQLite does not work on it (locking protocol)"
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_not_there_yet_is_tried_where_it_would_be_made(tmp_path: Path) -> None:
    assert nearest_existing(tmp_path / "a" / "b") == tmp_path
