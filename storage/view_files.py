"""The files behind a view, as rows that Arrow reads: each is looked at first, and one that is damaged or foreign named.

DuckDB asks Arrow for the columns and rows that it needs, and opens nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from fute.errors import StoreError
from storage.parts import files_of
from storage.seal import UNREADABLE, opened, unreadable

ORIGIN = pa.field("origin", pa.string())
"""The file that a row lies in."""


@dataclass(frozen=True)
class View:
    """A view: its files below the store, its columns, and what is said of it in `fute ls`.

    Attributes:
        glob: of its files; of its folders' files where they may be folded.
        made: columns that are not read but made of the file's name, as MADE says.
        later: columns that files of earlier versions lack.
        key: SQL for what a record counts once by, the latest, where it may lie in several files (storage/parts.py).
    """

    name: str
    glob: str
    schema: pa.Schema
    comment: str = ""
    made: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    key: str = ""

    @property
    def files(self) -> View:
        """The view of all that its files hold, be it there twice."""
        if not self.key:
            return self
        schema = self.schema.append(ORIGIN)
        return replace(self, name=f"every_{self.name}", schema=schema, made=(*self.made, ORIGIN.name))

    @property
    def once(self) -> str:
        """The query over that view in which each record counts once."""
        return f"""
            SELECT * EXCLUDE (origin) FROM every_{self.name}
            QUALIFY row_number() OVER (PARTITION BY {self.key} ORDER BY created_at DESC, origin DESC) = 1
        """


@dataclass(frozen=True)
class Made:
    """A column that is made of a file's path: here, and in SQL over `origin`."""

    of: Callable[[Path], str]
    sql: str


MADE = {
    "pool": Made(lambda path: path.stem, "parse_filename(origin, true)"),
    "split": Made(lambda path: path.stem, "parse_filename(origin, true)"),
    "dataset": Made(lambda path: path.parent.name.replace("~", "/"), "replace(parse_path(origin)[-2], '~', '/')"),
    "origin": Made(str, "origin"),
}

_DISK = pafs.LocalFileSystem()
_PARQUET = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


def live_files(root: Path, view: View) -> list[Path]:
    """The files of a view that count now."""
    if not view.key:
        return sorted(root.glob(view.glob))
    folders = sorted(path for path in root.glob(view.glob.rpartition("/")[0]) if path.is_dir())
    return [path for folder in folders for path in files_of(folder)]


def rows_of(view: View, paths: Sequence[Path]) -> ds.Dataset:
    """The rows of a view's files, still to be read.

    Raises:
        StoreError: a file is damaged or none of this view's; it is named.
        FileNotFoundError: one is gone.
    """
    return ds.FileSystemDataset([_fragment(view, path) for path in paths], view.schema, _PARQUET, _DISK)


def first_damaged(paths: Sequence[Path]) -> StoreError | None:
    """Read files from end to end; what is to be told of the first that cannot be."""
    for path in paths:
        try:
            for _ in _PARQUET.make_fragment(str(path), _DISK).to_batches():
                pass
        except FileNotFoundError:
            continue
        except UNREADABLE as exc:
            return unreadable(path, exc)
    return None


def _fragment(view: View, path: Path) -> ds.ParquetFileFragment:
    if path.is_symlink():  # it would be read with the rights of whoever asks
        raise StoreError(f"{path} is a link; put the file itself there")
    made = [ds.field(name) == ds.scalar(MADE[name].of(path)) for name in view.made]
    with opened(path) as file:
        columns = file.schema_arrow.names
    for field in view.schema:
        if field.name not in (*columns, *view.made, *view.later):
            raise StoreError(f"{path} is foreign here (it has no column {field.name}); move it out of the store")
    return _PARQUET.make_fragment(str(path), _DISK, partition_expression=reduce(and_, made) if made else None)
