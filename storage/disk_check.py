"""Can a store be kept on this file system? Tried on a small file, which is removed."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path


def nearest_existing(folder: Path) -> Path:
    """The folder, or the one above it that is there: where the store would be made."""
    while not folder.exists():
        folder = folder.parent
    return folder


def file_system_fault(folder: Path) -> str | None:
    """What does not work below a folder that is there; None when all is well.

    Answers of LLMs are kept in an SQLite file with a write-ahead log, which asks for more than all else does: locks,
    renames and shared memory.
    """
    try:
        trial = Path(tempfile.mkdtemp(prefix=".fute-doctor-", dir=folder))
    except OSError as exc:
        return f"no file can be written to it ({exc.strerror})"
    try:
        with closing(sqlite3.connect(trial / "trial.sqlite")) as db:
            ((mode,),) = db.execute("PRAGMA journal_mode = WAL").fetchall()
            db.execute("CREATE TABLE t (x)")
    except sqlite3.Error as exc:
        return f"SQLite does not work on it ({exc})"
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    return None if mode == "wal" else "SQLite has no write-ahead log on it"
