"""Does a folder's file system do what the store relies on? Each thing is tried on small files, which are removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

LOCK_TIMEOUT_S = 20
# In a process of its own: a process does not stand in the way of its own locks.
_TRY_LOCK = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'ab'), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 7)"


def nearest_existing(folder: Path) -> Path:
    """The folder, or the one above it that is there: where the store would be made."""
    while not folder.exists():
        folder = folder.parent
    return folder


def free_bytes(folder: Path) -> int:
    """Bytes that can still be written below a folder."""
    return shutil.disk_usage(nearest_existing(folder)).free


def file_system_faults(folder: Path) -> Iterator[str]:
    """What does not work below a folder that is there, one text each; nothing when all is well."""
    try:
        trial = Path(tempfile.mkdtemp(prefix=".fute-doctor-", dir=folder))
    except OSError as exc:
        yield f"no file can be written to it ({exc.strerror})"
        return
    try:
        checks = (_rename_faults, _lock_faults, _sqlite_faults)
        for check in checks:
            try:
                yield from check(trial)
            except OSError as exc:
                yield f"{check.__name__.split('_')[1]}: {exc.strerror}"
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _rename_faults(trial: Path) -> Iterator[str]:
    """Every artifact appears whole, by a rename over what was there."""
    new, target = trial / "new", trial / "target"
    target.write_bytes(b"old")
    with new.open("wb") as file:
        file.write(b"new")
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, target)
    if target.read_bytes() != b"new" or new.exists():
        yield "a rename does not replace a file at once"


def _lock_faults(trial: Path) -> Iterator[str]:
    """Two processes must not pay for the same answer."""
    path = trial / "lock"
    with path.open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 7)
        except OSError as exc:
            yield f"files cannot be locked ({exc.strerror})"
            return
        try:
            other = subprocess.run(
                [sys.executable, "-S", "-E", "-c", _TRY_LOCK, str(path)],
                capture_output=True,
                timeout=LOCK_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            yield f"asking for a lock took more than {LOCK_TIMEOUT_S} s"
            return
        if other.returncode == 0:
            yield "a lock of one process is not seen by another"


def _sqlite_faults(trial: Path) -> Iterator[str]:
    """Answers of LLMs are kept in an SQLite file with a write-ahead log."""
    try:
        db = sqlite3.connect(trial / "trial.sqlite")
        try:
            ((mode,),) = db.execute("PRAGMA journal_mode = WAL").fetchall()
            db.execute("CREATE TABLE t (x)")
            db.commit()
        finally:
            db.close()
    except sqlite3.Error as exc:
        yield f"SQLite does not work on it ({exc})"
        return
    if mode != "wal":
        yield "SQLite has no write-ahead log on it"
