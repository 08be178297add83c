"""Embeddings that were folded into larger files: found by fingerprint, and which one of a subject was used last.

A part is sorted by fingerprint, so its row groups' bounds say where one would be; nothing but these bounds is kept in
memory. A folded embedding's time of last use stands in the part; a later use is a mark, an empty file of its own:

    embeddings/space=<space>/kind=<kind>/used/<fingerprint>

It is made only where a subject has several embeddings, for with one there is nothing to choose.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fute.errors import StoreError
from storage.files import Scratch, read_parquet, write_file
from storage.folding import files_of

USED = "used_ns"  # column of folded embeddings: last use, in nanoseconds since 1970
MARKS = "used"
GROUP_BYTES = 8 * 2**20
MOST_GROUP_ROWS = 8192
TRIES = 5


def group_rows(table: pa.Table) -> int:
    """Rows of one row group: what is read together to get at one row."""
    rows = GROUP_BYTES * len(table) // max(table.nbytes, 1)
    return max(64, min(MOST_GROUP_ROWS, rows))


class Part:
    """One folded file; never changed once written. Get it from `part_at`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        metadata = pq.read_metadata(path)
        column = metadata.schema.to_arrow_schema().get_field_index("fingerprint")
        # Flat columns come before any nested one here, so the index counts leaves too.
        bounds = [metadata.row_group(g).column(column).statistics for g in range(metadata.num_row_groups)]
        # A part without rows has one group without bounds.
        self._least = [b.min for b in bounds if b is not None]
        self._most = [b.max for b in bounds if b is not None]

    def find(self, fingerprint: str) -> tuple[int, int] | None:
        """Its row group and row in it."""
        group = bisect_left(self._most, fingerprint)
        if group == len(self._most) or self._least[group] > fingerprint:
            return None
        row = pc.index(_fingerprints(self.path, group), pa.scalar(fingerprint)).as_py()
        return None if row < 0 else (group, row)

    def row(self, group: int, row: int) -> pa.Table:
        with pq.ParquetFile(self.path) as file:
            return file.read_row_group(group).slice(row, 1)


@lru_cache(maxsize=1024)
def part_at(path: Path) -> Part:
    return Part(path)


@lru_cache(maxsize=32)
def _fingerprints(path: Path, group: int) -> pa.ChunkedArray:
    with pq.ParquetFile(path) as file:
        return file.read_row_group(group, columns=["fingerprint"])["fingerprint"]


@lru_cache(maxsize=64)
def _subjects(path: Path) -> pa.ChunkedArray:
    return pq.read_table(path, columns=["subject"], partitioning=None)["subject"]


class FoldedEmbeddings:
    """The folded embeddings of one folder (one space and kind)."""

    def __init__(self, folder: Path, scratch: Scratch) -> None:
        self.folder = folder
        self._scratch = scratch

    def has(self, fingerprint: str) -> bool:
        return self._place(fingerprint) is not None

    def known(self, fingerprints: pa.Array) -> set[str]:
        """Those of many fingerprints that are here, folded or not."""
        for attempt in range(TRIES):
            files = files_of(self.folder)
            found = {path.stem for path in files.singles} & set(fingerprints.to_pylist())
            try:
                for path in files.parts:
                    here = pq.read_table(path, columns=["fingerprint"], partitioning=None)["fingerprint"]
                    found |= set(fingerprints.filter(pc.is_in(fingerprints, value_set=here)).to_pylist())
                return found
            except FileNotFoundError:  # folded into a larger one meanwhile
                if attempt == TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def get(self, fingerprint: str) -> pa.Table | None:
        """Its row; None where it is not folded.

        Raises:
            StoreError: a folded file is damaged.
        """
        found = self._place(fingerprint)
        return None if found is None else found[0].row(*found[1])

    def use(self, fingerprint: str, used_ns: int | None = None) -> None:
        """Mark it as the one in use, now or at a given time, if its subject has another embedding as well."""
        row = self.get(fingerprint)
        if row is None or not self._has_others(row["subject"][0]):
            return
        ns = used_ns or time.time_ns()

        def write(temporary: Path) -> None:
            temporary.touch()
            os.utime(temporary, ns=(ns, ns))

        write_file(self._scratch, self.folder / MARKS / fingerprint, write)

    def marks(self) -> dict[str, int]:
        """Times of last use that are later than those in the parts, by fingerprint."""
        try:
            with os.scandir(self.folder / MARKS) as entries:
                return {entry.name: entry.stat().st_mtime_ns for entry in entries}
        except FileNotFoundError:
            return {}

    def _place(self, fingerprint: str) -> tuple[Part, tuple[int, int]] | None:
        for attempt in range(TRIES):
            try:
                for path in files_of(self.folder).parts if (self.folder / "folded").is_dir() else ():
                    if (place := part_at(path).find(fingerprint)) is not None:
                        return part_at(path), place
                return None
            except FileNotFoundError:  # folded into a larger one meanwhile, which is there
                if attempt == TRIES - 1:
                    raise
            except (pa.ArrowException, OSError) as exc:
                raise StoreError(f"{self.folder}: a folded file cannot be read ({exc}); put back a copy of it") from exc
        return None

    def _has_others(self, subject: pa.Scalar) -> bool:
        files = files_of(self.folder)
        count = sum(pc.sum(pc.equal(_subjects(path), subject)).as_py() or 0 for path in files.parts)
        return count > 1 or any(_subject_of(path) == subject.as_py() for path in files.singles)


@lru_cache(maxsize=65536)
def _subject_of(path: Path) -> str:
    return read_parquet(path)["subject"][0].as_py()
