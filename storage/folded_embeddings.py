"""Embeddings that were folded into larger files: found by fingerprint, and which one of a subject was used last.

A part is sorted by fingerprint, so its row groups' bounds say where one would be; nothing but these bounds is kept in
memory. A folded embedding's time of last use stands in the part, that of one in a small file is the file's time. Where
that cannot be changed (in a part, on object storage, in another user's file) a later use is a mark, a file of its own:

    embeddings/space=<space>/kind=<kind>/used/<fingerprint>

It is empty, and its time is that of the use; or it holds the time, in nanoseconds since 1970. It is made only where a
subject has several embeddings, for with one there is nothing to choose.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fute.errors import StoreError
from storage.files import Scratch, read_parquet, write_file
from storage.folding import FOLDED, PARQUET, REPLACES, files_of, parts_of, while_files_go

USED = "used_ns"  # column of folded embeddings: last use, in nanoseconds since 1970
MARKS = "used"
GROUP_BYTES = 8 * 2**20
MOST_GROUP_ROWS = 8192


@contextmanager
def told_if_damaged(path: Path) -> Iterator[None]:
    """Around the reading of a file of embeddings. Raises StoreError: it is damaged; one that is gone is not."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as exc:
        its_list = f" and its {REPLACES} file" if path.parent.name == FOLDED else ""
        raise StoreError(
            f"{path} cannot be read ({exc}); put back a copy of it, or delete it{its_list} and run the study again"
        ) from exc


def group_rows(table: pa.Table) -> int:
    """Rows of one row group: what is read together to get at one row."""
    rows = GROUP_BYTES * len(table) // max(table.nbytes, 1)
    return max(64, min(MOST_GROUP_ROWS, rows))


class Part:
    """One folded file; never changed once written. Get it from `part_at`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with told_if_damaged(path):
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
        with told_if_damaged(self.path), pq.ParquetFile(self.path) as file:
            return file.read_row_group(group).take([row])  # a copy: a slice would keep the group in memory


@lru_cache(maxsize=1024)
def part_at(path: Path) -> Part:
    return Part(path)


@lru_cache(maxsize=32)
def _fingerprints(path: Path, group: int) -> pa.ChunkedArray:
    with told_if_damaged(path), pq.ParquetFile(path) as file:
        return file.read_row_group(group, columns=["fingerprint"])["fingerprint"]


@lru_cache(maxsize=64)
def _subjects(path: Path) -> pa.ChunkedArray:
    with told_if_damaged(path):
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

        def look() -> set[str]:
            files = files_of(self.folder)
            found = {path.stem for path in files.singles} & set(fingerprints.to_pylist())
            for path in files.parts:
                with told_if_damaged(path):
                    here = pq.read_table(path, columns=["fingerprint"], partitioning=None)["fingerprint"]
                found |= set(fingerprints.filter(pc.is_in(fingerprints, value_set=here)).to_pylist())
            return found

        return while_files_go(look)

    def get(self, fingerprint: str) -> pa.Table | None:
        """Its row; None where it is not folded.

        Raises:
            StoreError: a folded file is damaged.
        """
        found = self._place(fingerprint)
        return None if found is None else found[0].row(*found[1])

    def use(self, fingerprint: str, now_ns: int) -> None:
        """Mark it, folded or not, as the one in use now, if its subject has another embedding as well."""
        if self._is_one_of_several(fingerprint):
            self._mark(fingerprint, now_ns, "")

    def was_used(self, fingerprint: str, used_ns: int) -> None:
        """Keep a time of use that no part tells, of a file that is about to go."""
        if used_ns > self.marks().get(fingerprint, 0) and self._is_one_of_several(fingerprint):
            self._mark(fingerprint, used_ns, str(used_ns))  # on object storage the mark's own time would be now

    def marks(self) -> dict[str, int]:
        """Times of last use that are later than those in the parts and of small files, by fingerprint."""
        try:
            with os.scandir(self.folder / MARKS) as entries:
                return {entry.name: _time_of(entry) for entry in entries}
        except FileNotFoundError:
            return {}

    def uses(self, singles: Iterable[Path]) -> dict[str, int]:
        """The times of last use that may change: of the marks and of some small files, by fingerprint."""
        found = self.marks()
        for path in singles:
            with suppress(FileNotFoundError):  # folded and removed just now
                found[path.stem] = max(found.get(path.stem, 0), path.stat().st_mtime_ns)
        return found

    def row(self, fingerprint: str) -> pa.Table | None:
        """Its row, folded or not, with the column of its last use; None where it is not here.

        Raises:
            StoreError: its file is damaged.
        """
        path = self.folder / f"{fingerprint}{PARQUET}"
        try:
            table = read_parquet(path)
            return table.append_column(USED, pa.array([path.stat().st_mtime_ns] * len(table), pa.int64()))
        except FileNotFoundError:  # in this order: it is removed only after its folded one is there
            return self.get(fingerprint)

    def _place(self, fingerprint: str) -> tuple[Part, tuple[int, int]] | None:
        def look() -> tuple[Part, tuple[int, int]] | None:
            for path in parts_of(self.folder):
                if (place := part_at(path).find(fingerprint)) is not None:
                    return part_at(path), place
            return None

        return while_files_go(look)

    def _mark(self, fingerprint: str, ns: int, text: str) -> None:
        def write(temporary: Path) -> None:
            temporary.write_text(text)
            os.utime(temporary, ns=(ns, ns))

        write_file(self._scratch, self.folder / MARKS / fingerprint, write)

    def _is_one_of_several(self, fingerprint: str) -> bool:
        def look() -> bool:
            row = self.get(fingerprint)
            single = self.folder / f"{fingerprint}{PARQUET}"
            subject = _subject_of(single) if row is None else row["subject"][0].as_py()
            files = files_of(self.folder)
            count = sum(pc.sum(pc.equal(_subjects(path), subject)).as_py() or 0 for path in files.parts)
            return count + sum(_subject_of(path) == subject for path in files.singles) > 1

        try:
            return while_files_go(look)
        except FileNotFoundError:  # it is not here at all
            return False


@lru_cache(maxsize=65536)
def _subject_of(path: Path) -> str | None:
    try:
        return pq.read_table(path, columns=["subject"], partitioning=None)["subject"][0].as_py()
    except (pa.ArrowException, KeyError, IndexError):  # damaged or foreign: told by who reads it whole
        return None


def _time_of(mark: os.DirEntry[str]) -> int:
    status = mark.stat()
    text = Path(mark).read_text() if status.st_size else ""
    return int(text) if text.isdigit() else status.st_mtime_ns
