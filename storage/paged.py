"""Arrays that lie in a nameless file: the system pages them in and out, so memory does not grow with their number."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

CHUNK_BYTES = 2**26
ALIGNMENT = 64


class Paged:
    """A place for many arrays. The files are gone with the last array in them, however the process ends.

    Args:
        folder: where the files are made; a disk, and not a folder in memory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = np.empty(0, np.uint8)

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray:
        """A new array.

        Raises:
            OSError: the disk is full or write-protected.
        """
        size = prod(shape) * np.dtype(dtype).itemsize
        taken = -(-size // ALIGNMENT) * ALIGNMENT
        if taken > len(self._left):
            self._left = self._file(max(taken, CHUNK_BYTES))
        new, self._left = self._left[:size], self._left[taken:]
        return new.view(dtype).reshape(shape)

    def keep(self, array: NDArray) -> NDArray:
        """The same numbers in a file; on a full or write-protected disk the array itself."""
        try:
            kept = self.empty(array.shape, array.dtype)
        except OSError:
            return array
        kept[...] = array
        return kept

    def _file(self, size: int) -> NDArray[np.uint8]:
        # Not one file an array: each holds a descriptor, of which a process has a thousand or so.
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            # All of it now: on a full disk, writing to a page that has no place yet would kill the process.
            if not hasattr(os, "posix_fallocate"):
                raise OSError("this system cannot reserve a file's space")
            os.posix_fallocate(file.fileno(), 0, size)
            return np.asarray(np.memmap(file, np.uint8, "r+", shape=(size,)))
