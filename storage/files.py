"""Atomic files: written under the store's tmp/ folder, then renamed into place.

The temporary name is not beside the target but in one folder of the same store, since DuckDB's globs also match
hidden files, and a half-written file must never be seen by a reader.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fute.errors import StoreError

SCHEMA_VERSION = b"1"
VERSION_KEY = b"fute.schema_version"
STALE_AFTER_S = 24 * 3600


class Scratch:
    """The folder for files that are being written."""

    def __init__(self, root: Path) -> None:
        self.root = root / "tmp"

    def path(self) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        return self.root / f"{os.getpid()}-{uuid.uuid4().hex}"

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


def write_file(scratch: Scratch, target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file, make it durable, and rename it to `target`."""
    temporary = scratch.path()
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_parquet(scratch: Scratch, target: Path, table: pa.Table, *, row_group_size: int | None = None) -> None:
    """Write one Parquet file; its schema version stands in the metadata.

    Args:
        row_group_size: rows that a reader has to read together to read one of them.
    """
    metadata = {**(table.schema.metadata or {}), VERSION_KEY: SCHEMA_VERSION}
    table = table.replace_schema_metadata(metadata)

    def write(path: Path) -> None:
        pq.write_table(table, path, compression="zstd", row_group_size=row_group_size)

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
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version!r}, this fute reads {SCHEMA_VERSION!r}; use the fute that wrote it"
        )
    return table


def write_folder(scratch: Scratch, target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder, then rename it to `target`. A folder that is there already stays."""
    temporary = scratch.path()
    temporary.mkdir(parents=True)
    try:
        write(temporary)
        target.parent.mkdir(parents=True, exist_ok=True)
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
            metadata = {**(table.schema.metadata or {}), VERSION_KEY: SCHEMA_VERSION}
            pq.write_table(table.replace_schema_metadata(metadata), folder / f"{name}.parquet", compression="zstd")

    write_folder(scratch, target, write)
