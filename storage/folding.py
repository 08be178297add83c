"""Folded files: many small files of one folder in a larger one, and which files count at any moment.

    <folder>/<name>.parquet               as it was written: one record, or a few
    <folder>/folded/<part>.parquet        many of them together
    <folder>/folded/<part>.replaces       the files that are in the part and still lie here, one a line

Folding writes the list first, then the part, and removes the small files later. The part's appearance is the one
moment that counts: before it the small files are what is read, after it the part, and the list says which files are
not to be read any more. Whoever is killed in between leaves either state, never both and never none.

A run's record is written again, under its name, when its flow run is retried: one that changed after the part is not in
it, and counts. Of other files a later time is that of a use, and says nothing of what is in them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from storage.files import Scratch, write_file

T = TypeVar("T")

TRIES = 5
FOLDED = "folded"
PARQUET = ".parquet"
REPLACES = ".replaces"
WRITTEN_AGAIN = ("runs",)
"""Folders whose files may be written again after they were folded."""

_OWN = re.compile(rf"({FOLDED}/)?[^/]+{re.escape(PARQUET)}")


@dataclass(frozen=True)
class Files:
    """What a folder holds at one moment.

    Attributes:
        parts: folded files that count.
        singles: small files that count.
        replaced: files that a part has replaced and that wait for removal, by the part.
    """

    parts: tuple[Path, ...]
    singles: tuple[Path, ...]
    replaced: dict[Path, tuple[Path, ...]]

    @property
    def live(self) -> tuple[Path, ...]:
        return (*self.parts, *self.singles)


def files_of(folder: Path) -> Files:
    """The files of a folder that count now, each record in exactly one of them.

    Safe beside writers and a running compaction: it looks at the folded files before and after the small ones, and
    again if they have changed meanwhile.
    """
    while True:
        before = _names(folder / FOLDED)
        lists = _lists(folder, before)
        singles = [name for name in _names(folder) if name.endswith(PARQUET)]
        if lists is None or _names(folder / FOLDED) != before:
            continue
        replaced = {folder / FOLDED / name: _replaced(folder, name, lines) for name, lines in lists.items()}
        hidden = {path for paths in replaced.values() for path in paths}
        parts = [folder / FOLDED / name for name in before if name.endswith(PARQUET)]
        return Files(
            tuple(part for part in parts if part not in hidden),
            tuple(path for name in singles if (path := folder / name) not in hidden),
            replaced,
        )


def parts_of(folder: Path) -> tuple[Path, ...]:
    """The folded files of a folder that count now, without a look at the small ones, which may be very many."""
    while True:
        names = _names(folder / FOLDED)
        if (lists := _lists(folder, names)) is not None:
            hidden = {line for lines in lists.values() for line in lines}
            parts = [name for name in names if name.endswith(PARQUET) and f"{FOLDED}/{name}" not in hidden]
            return tuple(folder / FOLDED / name for name in parts)


def _lists(folder: Path, names: list[str]) -> dict[str, list[str]] | None:
    """By part, the lines of its list. None: a list was removed while it was looked for."""
    found = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix == REPLACES and f"{stem}{PARQUET}" in names:
            try:
                found[f"{stem}{PARQUET}"] = (folder / FOLDED / name).read_text(encoding="utf-8").splitlines()
            except FileNotFoundError:
                return None
    return found


def _replaced(folder: Path, part: str, lines: list[str]) -> tuple[Path, ...]:
    """What a part replaces, by its list."""
    # What is named here is deleted later: only files of this folder may be.
    paths = [folder / line for line in lines if _OWN.fullmatch(line)]
    if folder.name in WRITTEN_AGAIN:
        folded_ns = _changed_ns(folder / FOLDED / part)
        paths = [path for path in paths if path.parent.name == FOLDED or _changed_ns(path) <= folded_ns]
    return tuple(paths)


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # removed meanwhile
        return 0


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def while_files_go(look: Callable[[], T]) -> T:
    """What `look` finds; it looks again where a file that it had listed is gone: folded, it is in a larger one by now.

    Raises:
        FileNotFoundError: files go away faster than they can be read.
    """
    for _ in range(TRIES - 1):
        with suppress(FileNotFoundError):
            return look()
    return look()


def write_list(scratch: Scratch, folder: Path, part: Path, paths: Sequence[Path]) -> None:
    """Say which files of a folder one of its parts replaces."""

    def write(temporary: Path) -> None:
        temporary.write_text("\n".join(names_in(folder, paths)) + "\n", encoding="utf-8")

    write_file(scratch, part.with_suffix(REPLACES), write)


def names_in(folder: Path, paths: Sequence[Path]) -> list[str]:
    """As the list of a part names them."""
    return [path.relative_to(folder).as_posix() for path in paths]
