"""Columns of local Parquet, CSV and JSONL files as Arrow tables: the one reader of datasets, pools and predictions.

Parquet and JSON say what type a value has, and it keeps it. A cell of a CSV file has none and is read as text; what
it is taken for is decided where its meaning is known (`fute.data.cells`).
"""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from fute.config import FileSource
from fute.did_you_mean import did_you_mean, listed
from fute.errors import ConfigError, DataError

ENDINGS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_GLOB = frozenset("*?[")


def split_files(source: FileSource, base_dir: Path) -> dict[str, list[Path]]:
    """The files of each split (one path alone is the training split); a glob's files in the order of their names.

    Raises:
        ConfigError: no such file.
    """
    named = {"train": source.files} if isinstance(source.files, str) else source.files
    return {split: matching_files(pattern, base_dir) for split, pattern in named.items()}


def matching_files(pattern: str, base_dir: Path) -> list[Path]:
    """The file of this name, or the files that a glob matches, by name.

    Raises:
        ConfigError: there is none.
    """
    path = base_dir / Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if _GLOB & set(pattern):
        found = glob.glob(str(Path(pattern).expanduser()), root_dir=base_dir, recursive=True)
        if files := [file for file in sorted(base_dir / name for name in found) if file.is_file()]:
            return files
        raise ConfigError(f"no file matches {pattern!r} (looked in {base_dir.resolve()})")
    if path.is_dir():
        raise ConfigError(
            f"{pattern!r} is a folder; name a file, or the files in it as '{pattern.rstrip('/')}/*.parquet'"
        )
    if not path.parent.is_dir():
        raise ConfigError(f"there is no file {pattern!r}: the folder {path.parent.resolve()} does not exist")
    hint = did_you_mean(path.name, (p.name for p in path.parent.iterdir()))
    raise ConfigError(f"there is no file {pattern!r} (looked for {path.resolve()}){hint}")


def file_format(path: Path, declared: str) -> str:
    """parquet, csv or jsonl: as declared, or by the file's ending.

    Raises:
        ConfigError: the ending says nothing.
    """
    if declared != "auto":
        return declared
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(
            f"cannot tell the format of {path.name}; give it one of the endings {', '.join(ENDINGS)}, or set `format`"
        )
    return ENDINGS[path.suffix.lower()]


def missing_columns(path: Path, form: str, wanted: Iterable[str]) -> str | None:
    """What is wrong with the columns of a file, from its header or schema alone; None when all are there.

    JSONL has no header: its lines are read until every wanted column was seen.
    """
    wanted = list(dict.fromkeys(wanted))
    return describe_missing(path.name, columns_of(path, form, wanted), wanted)


def columns_of(path: Path, form: str, wanted: Iterable[str]) -> list[str]:
    """Names of the columns of a file; of JSONL those up to the line where all the wanted ones were seen.

    Raises:
        DataError: unreadable.
    """
    if form == "jsonl":
        there: dict[str, None] = {}
        missing = set(wanted)
        for row in jsonl_rows(path):
            there.update(dict.fromkeys(row))
            missing -= row.keys()
            if not missing:
                break
        return list(there)
    try:
        if form == "parquet":
            return list(pq.read_schema(path).names)
        with path.open(encoding="utf-8-sig", newline="") as lines:
            header = next((row for row in csv.reader(lines) if row), None)
    except (pa.ArrowException, OSError, UnicodeError, csv.Error) as exc:
        raise _unreadable(path, form, exc) from exc
    if header is None:
        raise DataError(f"{path} cannot be read as csv: it is empty; write a line with the names of its columns")
    return header


def describe_missing(where: str, there: Sequence[str], wanted: Iterable[str]) -> str | None:
    missing = [name for name in dict.fromkeys(wanted) if name not in there]
    if twice := [name for name in dict.fromkeys(wanted) if list(there).count(name) > 1]:
        return f"{where}: there is more than one column {twice[0]!r}; rename those that are not meant"
    if not missing:
        return None
    named = "; ".join(f"no column {name!r}{did_you_mean(name, there).rstrip('?')}" for name in missing)
    return f"{where}: {named}. Columns there: {listed(there, 30)}"


def read_file(path: Path, form: str, wanted: Iterable[str]) -> pa.Table:
    """Columns of one file: of CSV all as text, of Parquet and JSONL in the types that they have there.

    Raises:
        DataError: unreadable, a column is missing, or a JSONL column of values of more than one kind.
    """
    columns = list(dict.fromkeys(wanted))
    if problem := missing_columns(path, form, columns):
        raise DataError(problem)
    if form == "jsonl":
        return _read_jsonl(path, columns)
    try:
        if form == "parquet":
            # Without a partitioning, or a folder called `kind=a` above would add a column.
            return pq.read_table(path, columns=columns, partitioning=None)
        # One block: no value straddles two, however long it is.
        block = min(max(path.stat().st_size + 1, 1 << 20), (1 << 31) - 1)
        return pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(block_size=block),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns, pa.string())
            ),
        )
    except (pa.ArrowException, OSError) as exc:
        raise _unreadable(path, form, exc) from exc


def _read_jsonl(path: Path, columns: Sequence[str]) -> pa.Table:
    # Not through Arrow's reader, which makes timestamps of texts that look like some.
    values: dict[str, list[Any]] = {name: [] for name in columns}
    for row in jsonl_rows(path):
        for name in columns:
            values[name].append(row.get(name))
    arrays = {}
    for name, column in values.items():
        try:
            arrays[name] = pa.array(column)
        except (pa.ArrowException, UnicodeError, OverflowError) as exc:
            raise DataError(
                f"{path.name}: column {name!r} cannot be read: {exc}; give values of one kind, and numbers of more "
                "than 64 bits as text"
            ) from exc
    return pa.table(arrays)


def jsonl_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, line by line.

    Raises:
        DataError: unreadable, or a line that is no object.
    """
    number = 0
    decode = json.JSONDecoder(object_pairs_hook=_object).decode
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = decode(line)
                if not isinstance(row, dict):
                    raise DataError(
                        f"{path.name} cannot be read as jsonl: line {number} is no object; write one row a line, "
                        'as {"text": ..., "label": ...}'
                    )
                yield row
    except UnicodeDecodeError as exc:
        raise _unreadable(path, "jsonl", exc) from exc
    except (ValueError, RecursionError) as exc:
        if isinstance(exc, DataError):
            raise
        raise DataError(f"{path.name} cannot be read as jsonl: line {number}: {exc}") from exc
    except OSError as exc:
        raise _unreadable(path, "jsonl", exc) from exc


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"a name stands twice in one object ({', '.join(name for name, _ in pairs)})")
    return row


def _unreadable(path: Path, form: str, exc: Exception) -> DataError:
    what = f"it is not UTF-8 ({exc})" if isinstance(exc, UnicodeError) else str(exc)
    return DataError(f"{path} cannot be read as {form}: {what}. Fix the file, or set `format` to what it is")
