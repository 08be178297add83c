"""File systems that are full or read-only, for real where this process may mount one; root ignores file modes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def read_only(folder: Path, at: Path | None = None) -> Iterator[None]:
    """The folder cannot be written to, by anyone; or only where it is seen a second time."""
    place = str(at or folder)
    _mount("--bind", str(folder), place)
    try:
        _mount("-o", "remount,bind,ro", place)
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """The folder is a disk of its own, of this size."""
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if done.returncode != 0:
        pytest.skip(f"this process may mount nothing: {done.stderr.strip()}")
