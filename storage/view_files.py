"""The files behind a view, as rows that Arrow reads: each is looked at first, and one that is damaged or foreign named.

DuckDB asks Arrow for the columns and rows that it needs, and opens nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from fute.errors import StoreError
from storage.folding import files_of
from storage.seal import UNREADABLE, require_own_place, require_unbroken, unreadable


@dataclass(frozen=True)
class View:
    """A view: its files below the store, its columns, and what is said of it in `fute ls`.

    Attributes:
        glob: of its files; of its folders' files where they may be folded.
        made: columns that are not read but made of the file's name, as MADE says.
        later: columns that files of earlier versions lack.
        folds: whether its files may be folded into larger ones.
        only: SQL behind the query: which of its rows count.
    """

    name: str
    glob: str
    schema: pa.Schema
    comment: str = ""
    made: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    folds: bool = False
    only: str = ""


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
    if not view.folds:
        return sorted(root.glob(view.glob))
    folders = sorted(path for path in root.glob(view.glob.rpartition("/")[0]) if path.is_dir())
    return [path for folder in folders for path in files_of(folder).live]


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
    try:
        require_unbroken(path)
        fragment = _PARQUET.make_fragment(str(path), _DISK, partition_expression=reduce(and_, made) if made else None)
        columns = fragment.physical_schema
    except FileNotFoundError:
        raise
    except UNREADABLE as exc:
        raise unreadable(path, exc) from exc
    require_own_place(path, columns.metadata)
    for field in view.schema:
        if field.name in columns.names:
            if not _alike(columns.field(field.name).type, field.type):
                found = columns.field(field.name).type
                raise _foreign(path, f"its column {field.name} is {found}, and not {field.type}")
        elif field.name not in (*view.made, *view.later):
            raise _foreign(path, f"it has no column {field.name}")
    return fragment


def _foreign(path: Path, reason: str) -> StoreError:
    return StoreError(f"{path} is foreign here ({reason}); move it out of the store")


def _alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of one type are read as the other without a change of meaning."""
    if found == wanted:
        return True
    if _is_list(found) and _is_list(wanted):
        return _alike(found.value_type, wanted.value_type)
    return (_is_text(found) and _is_text(wanted)) or (_is_number(found) and _is_number(wanted))


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)
