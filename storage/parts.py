"""Which files hold a folder's records, where many small files may have been folded into larger ones.

    <folder>/<name>.parquet           a single: one record, as its task wrote it
    <folder>/folded/<part>.parquet    a part: the records of many singles (storage/folding.py)

A part is in place before its singles are deleted, and is never deleted itself. So a record may lie in several files at
once, and never in none: readers list singles first and parts second, and count each record once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

TRIES = 5
FOLDED = "folded"


def files_of(folder: Path) -> list[Path]:
    """All files of a folder: parts, then singles."""
    singles = singles_of(folder)  # first: one that is gone by now is in a part that is listed below
    return [*parts_of(folder), *singles]


def singles_of(folder: Path) -> list[Path]:
    return _parquet_in(folder)


def parts_of(folder: Path) -> list[Path]:
    return _parquet_in(folder / FOLDED)


def _parquet_in(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if name.endswith(".parquet")]
    except FileNotFoundError:
        return []


def while_files_go(look: Callable[[], T]) -> T:
    """What `look` finds; it looks again where a file that it had listed is gone, folded by now.

    Raises:
        FileNotFoundError: files go away faster than they can be read.
    """
    for _ in range(TRIES - 1):
        with suppress(FileNotFoundError):
            return look()
    return look()
