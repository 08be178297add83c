"""What a Parquet file of the store says of itself, so that damage and mix-ups are never read as rows.

Each page has a checksum. The footer has one of its own, and names the place below the store for which the file was
written: one that lies elsewhere is told. Files of earlier versions have no seal; of them Parquet notices what it can.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from fute.errors import StoreError

SCHEMA_VERSION = b"1"
VERSION_KEY = b"fute.schema_version"
PLACE_KEY = b"fute.place"
_MARK = b"fute.crc"  # stands right before the footer, with the footer's CRC-32 as 8 digits after it
_MARK_LEFT = 3  # as many of its bytes tell a damaged seal from a file that has none

UNREADABLE = (pa.ArrowException, OSError, MemoryError, ValueError)
"""What reading a damaged file raises: a size in it may have become any number."""


def write_sealed(table: pa.Table, path: Path, place: str, row_group_size: int | None = None) -> None:
    """Write a table to `path` as the file that is going to be at `place` below the store."""
    metadata = {**(table.schema.metadata or {}), VERSION_KEY: SCHEMA_VERSION, PLACE_KEY: place.encode()}
    table = table.replace_schema_metadata(metadata)
    pq.write_table(table, path, compression="zstd", row_group_size=row_group_size, write_page_checksum=True)
    with path.open("r+b") as file:
        footer = _footer(file)
        file.seek(-len(footer), os.SEEK_END)
        # Pages are found by their distance from the beginning, so there may be more before the footer.
        file.write(_MARK + b"%08x" % zlib.crc32(footer) + footer)


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file of the store whose seal is whole; what fails to be read within the `with` is told too.

    Raises:
        StoreError: the file is damaged, or by its metadata none of fute's or none of this place.
        FileNotFoundError: it is not there.
    """
    try:
        with pa.OSFile(str(path)) as source:
            require_unbroken(source)
            with pq.ParquetFile(source, page_checksum_verification=True) as file:
                require_own_place(path, file.schema_arrow.metadata)
                yield file
    except FileNotFoundError:
        raise
    except UNREADABLE as exc:
        raise unreadable(path, exc) from exc


def require_unbroken(file: pa.NativeFile) -> None:
    """Look at the footer's seal, before anything in it is believed. Raises ValueError: it is damaged, or has no end."""
    footer = _footer(file)
    file.seek(max(0, file.tell() - len(footer) - len(_MARK) - 8))
    mark, checksum = file.read(len(_MARK)), file.read(8)
    sealed = sum(a == b for a, b in zip(mark, _MARK, strict=True)) >= _MARK_LEFT
    if sealed and checksum != b"%08x" % zlib.crc32(footer):
        raise ValueError("its footer is damaged")


def require_own_place(path: Path, metadata: dict[bytes, bytes] | None) -> None:
    """Raises StoreError: by its metadata, fute did not write this file, or not for this place."""
    written = metadata or {}
    version = written.get(VERSION_KEY)
    if version is None:
        raise StoreError(f"{path} was not written by fute; move it out of the store")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version!r}, this fute reads {SCHEMA_VERSION!r}; use the fute that wrote it"
        )
    place = written.get(PLACE_KEY, b"").decode(errors="replace")
    if place and not f"/{path.as_posix()}".endswith(f"/{place}"):
        raise StoreError(f"{path} was written as {place}; move it back there, or out of the store")


def unreadable(path: Path, exc: BaseException) -> StoreError:
    """What is told of a file that cannot be read."""
    return StoreError(f"{path} cannot be read ({exc}); {advice(path, exc)}")


def advice(path: Path, exc: BaseException) -> str:
    """What to do about a file that could not be read."""
    if isinstance(exc, OSError) and exc.errno is not None:  # the system's: the file itself may be whole
        return "look at its rights, the disk and the number of open files, and run again"
    if {"runs", "drift", "responses"} & set(path.parts):  # nothing makes these again
        return "put back a copy of it, or move it out of the store"
    return "delete it and run the study again"


def _footer(file: BinaryIO | pa.NativeFile) -> bytes:
    """The footer with its length and the magic word, up to the end of the file. Raises ValueError: there is none."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    length = int.from_bytes(file.read(4), "little")
    if size < 8 + length:
        raise ValueError("it has no footer")
    file.seek(size - 8 - length)
    return file.read()
