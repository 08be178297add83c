"""Folded files: many small files of one folder in a larger one, and which files count at any moment.

    <folder>/<name>.parquet               as it was written: one record, or a few
    <folder>/folded/<part>.parquet        many of them together
    <folder>/folded/<part>.replaces       the files that are in the part and still lie here, one a line

Folding writes the list first, then the part, and removes the small files later. The part's appearance is the one
moment that counts: before it the small files are what is read, after it the part, and the list says which files are
not to be read any more. Whoever is killed in between leaves either state, never both and never none.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

FOLDED = "folded"
PARQUET = ".parquet"
REPLACES = ".replaces"

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
        replaced = _replaced(folder, before)
        singles = [name for name in _names(folder) if name.endswith(PARQUET)]
        if replaced is None or _names(folder / FOLDED) != before:
            continue
        hidden = {path for paths in replaced.values() for path in paths}
        parts = [folder / FOLDED / name for name in before if name.endswith(PARQUET)]
        return Files(
            tuple(part for part in parts if part not in hidden),
            tuple(path for name in singles if (path := folder / name) not in hidden),
            replaced,
        )


def _replaced(folder: Path, names: list[str]) -> dict[Path, tuple[Path, ...]] | None:
    """By part, what it replaces. None: a list was removed while it was looked for."""
    found = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix == REPLACES and f"{stem}{PARQUET}" in names:
            try:
                lines = (folder / FOLDED / name).read_text(encoding="utf-8").splitlines()
            except FileNotFoundError:
                return None
            # What is named here is deleted later: only files of this folder may be.
            own = [line for line in lines if _OWN.fullmatch(line)]
            found[folder / FOLDED / f"{stem}{PARQUET}"] = tuple(folder / line for line in own)
    return found


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
