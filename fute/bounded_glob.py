"""Globs of a study: looked through only as far as somebody would wait for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from fute.errors import ConfigError

MOST_ENTRIES = 100_000
"""Files and folders below the part of a pattern that has no * in it."""


def bounded_glob(pattern: str, base_dir: Path) -> list[Path]:
    """What matches a pattern (relative ones start at base_dir; ** stands for any folders), in the order of names.

    Raises:
        ConfigError: it would look through too much.
    """
    parts = Path(pattern).expanduser().parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    below = parts[fixed:]
    if below.count("**") > 1:
        raise ConfigError(f"{pattern!r} has ** in it more than once; name the folders between")
    deepest = None if "**" in below else len(below)
    for seen, _ in enumerate(_entries(base_dir.joinpath(*parts[:fixed]), deepest)):
        if seen >= MOST_ENTRIES:
            raise ConfigError(
                f"{pattern!r} looks through more than {MOST_ENTRIES:,} files and folders; name a folder nearer to the "
                "files"
            )
    found = glob.glob(str(Path(*parts)), root_dir=base_dir, recursive=True)
    return sorted(base_dir / name for name in found)


def _entries(root: Path, deepest: int | None) -> Iterator[os.DirEntry[str]]:
    """What a glob would look at: all below a folder, links to folders followed, down to a depth."""
    waiting = [(str(root), 1)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    yield entry
                    if (deepest is None or depth < deepest) and entry.is_dir():
                        waiting.append((entry.path, depth + 1))
        except OSError:
            continue  # a glob passes over it, too
