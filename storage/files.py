"""Atomic files: written under the store's tmp/ folder, then renamed into place.

The temporary name is not beside the target but in one folder of the same store, since DuckDB's globs also match
hidden files, and a half-written file must never be seen by a reader.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fute.errors import StoreError
from storage.seal import opened, write_sealed

STALE_AFTER_S = 7 * 24 * 3600  # no training goes on for a week without writing a file beside its weights
CARD = "card.parquet"  # in each folder that is written as one
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_SHORT_WRITE = re.compile(r"^\d+ requested and \d+ written$")
CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class Scratch:
    """The folder for files that are being written."""

    def __init__(self, root: Path) -> None:
        self.root = root / "tmp"

    def path(self) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        return self.root / uuid.uuid4().hex

    def place(self, path: Path) -> str:
        """Of a file of the store, below its folder; none of one that is made here first."""
        below = path.is_relative_to(self.root.parent) and not path.is_relative_to(self.root)
        return path.relative_to(self.root.parent).as_posix() if below else ""

    def sweep(self) -> None:
        """Remove what killed writers left behind."""
        for entry in self.root.glob("*"):
            with suppress(FileNotFoundError):  # its writer has just renamed it
                if time.time() - entry.stat().st_mtime > STALE_AFTER_S:
                    shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()


@contextmanager
def explain_unwritable(target: Path) -> Iterator[None]:
    """A full or write-protected disk is no riddle: what could not be written, and what to do."""
    try:
        yield
    except Exception as exc:  # libraries have errors of their own for it
        number = errno_of(exc)
        if number not in CANNOT_WRITE:
            raise
        what = "free disk space" if number in (errno.ENOSPC, errno.EDQUOT) else "get write permission"
        raise StoreError(
            f"{target} could not be written ({os.strerror(number)}); {what} and run again: what is stored stays"
        ) from exc


def errno_of(exc: BaseException) -> int | None:
    """The system's number for what went wrong, also where a library hides it."""
    number = exc.errno if isinstance(exc, OSError) else None
    if number is None and (told := _OS_ERROR.search(str(exc))):  # as safetensors has it, from Rust
        number = int(told[1])
    if number is None and _SHORT_WRITE.search(str(exc)):  # as numpy has it: C tells how much, not why
        number = errno.ENOSPC
    return number


def write_file(scratch: Scratch, target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, make it durable, and rename it to `target`."""
    with explain_unwritable(target):
        temporary = scratch.path()
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, target)
        finally:
            with suppress(OSError):  # not there, or not to be removed: sweep() will
                temporary.unlink()


def write_parquet(
    scratch: Scratch,
    target: Path,
    table: pa.Table,
    *,
    row_group_size: int | None = None,
    folder: Path | None = None,
) -> None:
    """Write one Parquet file, with its seal.

    Args:
        row_group_size: rows that a reader has to read together to read one of them.
        folder: where it is going to lie, when `target` is in a folder that is renamed later.
    """
    place = scratch.place(target if folder is None else folder / target.name)

    def write(path: Path) -> None:
        write_sealed(table, path, place, row_group_size)

    write_file(scratch, target, write)


def read_parquet(path: Path, columns: Sequence[str] | None = None, where: pc.Expression | None = None) -> pa.Table:
    """Read one Parquet file of the store.

    Args:
        columns: only these; default: all.
        where: only the rows for which this holds; of the others not even the row groups are read, where these tell.

    Raises:
        StoreError: the file is damaged, was written by a later version of fute, or for another place.
        FileNotFoundError: it is not there.
    """
    wanted = None if columns is None else list(columns)
    with opened(path) as file:
        if missing := set(wanted or ()) - set(file.schema_arrow.names):
            raise StoreError(f"{path} lacks the columns {', '.join(sorted(missing))}; move it out of the store")
        if where is None:
            return file.read(wanted)
        # One file is one table: no hive columns are to be made from the folder names.
        return pq.read_table(path, columns=wanted, filters=where, partitioning=None, page_checksum_verification=True)


def write_folder(scratch: Scratch, target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder, then rename it to `target`. A folder that is there already stays.

    Unless its card is missing: it was damaged, and somebody deleted the card to have it made again.
    """
    with explain_unwritable(target):
        temporary = scratch.path()
        temporary.mkdir(parents=True)
        try:
            write(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir() and not (target / CARD).is_file():
                aside = scratch.path()
                os.rename(target, aside)
                shutil.rmtree(aside, ignore_errors=True)
            try:
                os.rename(temporary, target)
            except OSError:
                if not target.is_dir():  # not "another writer was first", but a real fault
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_parquet_folder(scratch: Scratch, target: Path, tables: Mapping[str, pa.Table]) -> None:
    """Write several Parquet files as one folder that appears whole or not at all."""

    def write(folder: Path) -> None:
        for name, table in tables.items():
            write_sealed(table, folder / f"{name}.parquet", scratch.place(target / f"{name}.parquet"))

    write_folder(scratch, target, write)
