"""MLflow's SQLite file, which is there as a whole or not at all.

MLflow makes its tables one after the other, in seconds, and takes a file that a kill has left half made for one of an
older MLflow. So it is made beside its place and renamed.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from storage.files import Scratch


def make_whole(path: Path) -> None:
    """Make the file, unless it is there.

    Raises:
        Exception: whatever MLflow raises when it cannot make its tables.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Scratch(path.parent).path()
    try:
        _open(made)
        _put(made, path)
    finally:
        made.unlink(missing_ok=True)


def _put(made: Path, path: Path) -> None:
    """Rename into place, unless another run was first."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists():
            return
        for suffix in ("-journal", "-wal", "-shm"):  # of one before, which SQLite would take for this one's
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        os.replace(made, path)
    finally:
        os.close(folder)


def _open(path: Path) -> None:
    """Have MLflow make its tables."""
    import mlflow

    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments(max_results=1)
