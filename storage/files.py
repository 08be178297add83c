"""Atomic files: written under the store's tmp/ folder, then renamed into place (and uploaded: see remote.py).

The temporary name is not beside the target but in one folder of the same store, since DuckDB's globs also match
hidden files, and a half-written file must never be seen by a reader.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fute.errors import StoreError
from storage.remote import removed_through, written_through

SCHEMA_VERSION = b"1"
VERSION_KEY = b"fute.schema_version"
STALE_AFTER_S = 24 * 3600
CARD = "card.parquet"  # in each folder that is written as one
CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class Scratch:
    """The folder for files that are being written."""

    def __init__(self, root: Path) -> None:
        self.root = root / "tmp"

    def path(self) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        return self.root / f"{os.getpid()}-{uuid.uuid4().hex}"

    def now_ns(self) -> int:
        """The time in ns since 1970; never earlier than one that was told before, though the clock may go back.

        What was used last is told by times. The store's latest one is that of its file `clock`.
        """
        clock = self.root.parent / "clock"
        try:
            now = max(time.time_ns(), clock.stat().st_mtime_ns + 1000)
        except FileNotFoundError:
            now = time.time_ns()
            clock.parent.mkdir(parents=True, exist_ok=True)
            clock.touch()
        try:
            os.utime(clock, ns=(now, now))
        except PermissionError:  # another user's: only its owner may set its time, but it may be replaced
            mine = self.path()
            mine.touch()
            os.utime(mine, ns=(now, now))
            os.replace(mine, clock)
        return now

    def sweep(self) -> None:
        """Remove what killed writers left behind more than a day ago."""
        if not self.root.is_dir():
            return
        for entry in self.root.iterdir():
            try:
                stale = time.time() - entry.stat().st_mtime > STALE_AFTER_S
            except FileNotFoundError:  # its writer has just renamed it
                continue
            if stale:
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


@contextmanager
def told_if_unwritable(target: Path) -> Iterator[None]:
    """A full or write-protected disk is no riddle: what could not be written, and what to do."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in CANNOT_WRITE:
            raise
        what = "free disk space" if exc.errno in (errno.ENOSPC, errno.EDQUOT) else "give yourself the right to write"
        raise StoreError(
            f"{target} could not be written ({os.strerror(exc.errno)}); {what} and run again: what is stored stays"
        ) from exc


def write_file(scratch: Scratch, target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file, make it durable, and rename it to `target`."""
    with told_if_unwritable(target):
        temporary = scratch.path()
    try:
        with told_if_unwritable(target):
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_through(target):
            os.replace(temporary, target)
    finally:
        with suppress(OSError):  # not there, or not to be removed: sweep() will
            temporary.unlink()


def write_parquet(scratch: Scratch, target: Path, table: pa.Table, *, row_group_size: int | None = None) -> None:
    """Write one Parquet file; its schema version stands in the metadata.

    Args:
        row_group_size: rows that a reader has to read together to read one of them.
    """
    metadata = {**(table.schema.metadata or {}), VERSION_KEY: SCHEMA_VERSION}
    table = table.replace_schema_metadata(metadata)

    def write(path: Path) -> None:
        pq.write_table(table, path, compression="zstd", row_group_size=row_group_size)
        now = scratch.now_ns()
        os.utime(path, ns=(now, now))

    write_file(scratch, target, write)


def read_parquet(path: Path) -> pa.Table:
    """Read one Parquet file of the store.

    Raises:
        StoreError: the file is damaged, or was written by a later version of fute.
    """
    try:
        # One file is one table: no hive columns are to be made from the folder names.
        table = pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as exc:
        raise StoreError(f"{path} cannot be read ({exc}); delete it and run the study again") from exc
    version = (table.schema.metadata or {}).get(VERSION_KEY)
    if version is None:
        raise StoreError(f"{path} was not written by fute; move it out of the store")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version!r}, this fute reads {SCHEMA_VERSION!r}; use the fute that wrote it"
        )
    return table


def write_folder(scratch: Scratch, target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder, then rename it to `target`. A folder that is there already stays.

    Unless its card is missing: it was damaged, and somebody deleted the card to have it made again.
    """
    with told_if_unwritable(target):
        temporary = scratch.path()
        temporary.mkdir(parents=True)
    try:
        with told_if_unwritable(target):
            write(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and not (target / CARD).is_file():
            aside = scratch.path()
            os.rename(target, aside)
            shutil.rmtree(aside, ignore_errors=True)
        with written_through(target):
            try:
                os.rename(temporary, target)
            except OSError:
                if not target.is_dir():  # not "another writer was first", but a real fault
                    raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def touch_file(scratch: Scratch, path: Path) -> None:
    """Set a file's time to now: it counts as the one used last."""
    now = scratch.now_ns()
    with written_through(path):
        try:
            os.utime(path, ns=(now, now))
        except PermissionError:  # another user's: only its owner may set its time, but it may be replaced by a copy
            mine = scratch.path()
            shutil.copyfile(path, mine)
            os.utime(mine, ns=(now, now))
            os.replace(mine, path)


def remove_file(path: Path) -> None:
    """Delete a file whose content stands elsewhere by now."""
    path.unlink(missing_ok=True)
    removed_through(path)


def write_parquet_folder(scratch: Scratch, target: Path, tables: Mapping[str, pa.Table]) -> None:
    """Write several Parquet files as one folder that appears whole or not at all."""

    def write(folder: Path) -> None:
        for name, table in tables.items():
            metadata = {**(table.schema.metadata or {}), VERSION_KEY: SCHEMA_VERSION}
            pq.write_table(table.replace_schema_metadata(metadata), folder / f"{name}.parquet", compression="zstd")

    write_folder(scratch, target, write)
