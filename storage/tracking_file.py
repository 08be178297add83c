"""MLflow's SQLite file, which is there as a whole or not at all.

MLflow makes its tables one after the other, in seconds, and takes a file that a kill has left half made for one of an
older MLflow. So it is made beside its place and renamed; one that was left half made, by whatever, is made anew.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from storage.files import Scratch

log = logging.getLogger(__name__)

QUIET_S = 5
"""A file that changed so lately may be in the making: MLflow's own server makes it in its place."""


def make_whole(path: Path) -> None:
    """See to it that the file is whole; one that holds runs is left as it is.

    Raises:
        Exception: whatever MLflow raises when it cannot make its tables.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Scratch(path.parent)
    made = scratch.path()
    try:
        while (changed := _changed_ns(path)) is not None:
            if _holds_runs(path) or _works_as_a_copy(path, scratch.path()):
                return
            if (left_s := changed / 1e9 + QUIET_S - time.time()) <= 0:
                break
            time.sleep(min(left_s, 1.0))
        _open(made)
        _put(made, path, changed)
    finally:
        made.unlink(missing_ok=True)


def _put(made: Path, path: Path, changed: int | None) -> None:
    """Rename into place, unless another run was first; `changed` tells the half-made file that is there."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        if _changed_ns(path) != changed:
            return
        if changed is not None:
            aside = path.with_name(f"{path.name}.half-made")
            os.replace(path, aside)
            log.warning("MLflow's file %s was left half made, with no run in it; it is %s now, and is made anew",
                        path, aside.name)  # fmt: skip
        for suffix in ("-journal", "-wal", "-shm"):  # of the one before, which SQLite would take for this one's
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        os.replace(made, path)
    finally:
        os.close(folder)


def _changed_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _holds_runs(path: Path) -> bool:
    """Whether there is a run in it; also when that cannot be told, for then it is not ours to replace."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30.0)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchall():
                return False
            return bool(db.execute("SELECT 1 FROM runs LIMIT 1").fetchall())
    except sqlite3.Error:
        return True


def _works_as_a_copy(path: Path, copy: Path) -> bool:
    """Whether MLflow takes it. Tried on a copy under a new name: MLflow changes what it opens, and keeps it open."""
    try:
        with closing(sqlite3.connect(path, timeout=30.0)) as db, closing(sqlite3.connect(copy)) as other:
            db.backup(other)
        _open(copy)
    except Exception:  # whatever MLflow thinks of it
        return False
    finally:
        copy.unlink(missing_ok=True)
    return True


def _open(path: Path) -> None:
    """Have MLflow make what is missing."""
    import mlflow

    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments(max_results=1)
