"""What a Parquet file of the store says of itself, so that damage and mix-ups are never read as rows.

Each page has a checksum. The footer has one of its own, and names the place below the store for which the file was
written: one that lies elsewhere is told. Files of earlier versions have no seal; of them Parquet notices what it can.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from fute.errors import StoreError

SCHEMA_VERSION = b"1"
VERSION_KEY = b"fute.schema_version"
PLACE_KEY = b"fute.place"
CHECKSUM_KEY = b"fute.footer_crc32"
BLANK = b"0" * 8
# The key and its value in the footer. The checksum is of the footer with BLANK as its value.
_SEAL = re.compile(re.escape(CHECKSUM_KEY) + rb"\x18\x08([0-9a-f]{8})")

UNREADABLE = (pa.ArrowException, OSError, MemoryError, ValueError)
"""What reading a damaged file raises: a size in it may have become any number."""


def write_sealed(table: pa.Table, path: Path, place: str, row_group_size: int | None = None) -> None:
    """Write a table to `path` as the file that is going to be at `place` below the store."""
    sealed = {VERSION_KEY: SCHEMA_VERSION, PLACE_KEY: place.encode(), CHECKSUM_KEY: BLANK}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **sealed})
    pq.write_table(table, path, compression="zstd", row_group_size=row_group_size, write_page_checksum=True)
    with path.open("r+b") as file:
        start, footer = _footer(file)
        (seal,) = _SEAL.finditer(footer)
        file.seek(start + seal.start(1))
        file.write(b"%08x" % zlib.crc32(footer))


def require_unbroken(path: Path) -> None:
    """Look at the seal of the footer, before anything in it is believed.

    Raises:
        ValueError: the footer is damaged.
        OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        _, footer = _footer(file)
    seals = list(_SEAL.finditer(footer))
    if not seals and PLACE_KEY not in footer:  # of an earlier version
        return
    if len(seals) != 1 or _checksum(footer, seals[0].start(1)) != int(seals[0][1], 16):
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


def _footer(file: BinaryIO) -> tuple[int, bytes]:
    """Where the footer begins, and its bytes; none of a file that ends otherwise."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    length = int.from_bytes(file.read(8)[:4], "little")
    start = max(0, size - 8 - length)
    file.seek(start)
    return start, file.read(length)


def _checksum(footer: bytes, at: int) -> int:
    return zlib.crc32(footer[:at] + BLANK + footer[at + len(BLANK) :])
