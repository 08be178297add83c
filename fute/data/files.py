"""Columns of local Parquet, CSV and JSONL files, through pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from fute.bounded_glob import bounded_glob
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
        if files := [p for p in bounded_glob(pattern, base_dir) if p.is_file()]:
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
    there = _jsonl_columns(path, wanted) if form == "jsonl" else _header(path, form)
    return describe_missing(path.name, there, wanted)


def describe_missing(where: str, there: Sequence[str], wanted: Iterable[str]) -> str | None:
    missing = [name for name in dict.fromkeys(wanted) if name not in there]
    if not missing:
        return None
    named = "; ".join(f"no column {name!r}{did_you_mean(name, there).rstrip('?')}" for name in missing)
    return f"{where}: {named}. Columns there: {listed(there, 30)}"


def read_file(path: Path, form: str, text: Sequence[str], other: Sequence[str]) -> pa.Table:
    """Columns of one file. `text` columns are read as text whatever they look like; `other` as inferred.

    Raises:
        DataError: unreadable, or a column is missing.
    """
    columns = list(dict.fromkeys([*text, *other]))
    if problem := missing_columns(path, form, columns):
        raise DataError(problem)
    as_text = {name: pa.string() for name in text}
    # One block: types are inferred from the whole file, and no value straddles two blocks.
    block = min(max(path.stat().st_size + 1, 1 << 20), (1 << 31) - 1)
    try:
        if form == "parquet":
            # Without a partitioning, or a folder called `kind=a` above would add a column.
            return pq.read_table(path, columns=columns, partitioning=None)
        if form == "csv":
            return pa_csv.read_csv(
                path,
                read_options=pa_csv.ReadOptions(block_size=block),
                parse_options=pa_csv.ParseOptions(newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(include_columns=columns, column_types=as_text),
            )
        table = pa_json.read_json(
            path,
            read_options=pa_json.ReadOptions(block_size=block),
            parse_options=pa_json.ParseOptions(explicit_schema=pa.schema(as_text)),
        )
        return table.select(columns)
    except (pa.ArrowException, OSError) as exc:
        raise _unreadable(path, form, exc) from exc


def _header(path: Path, form: str) -> list[str]:
    try:
        if form == "parquet":
            return pq.read_schema(path).names
        with pa_csv.open_csv(path, parse_options=pa_csv.ParseOptions(newlines_in_values=True)) as reader:
            return reader.schema.names
    except (pa.ArrowException, OSError) as exc:
        raise _unreadable(path, form, exc) from exc


def _jsonl_columns(path: Path, wanted: Sequence[str]) -> list[str]:
    there: dict[str, None] = {}
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise DataError(
                        f"{path.name} cannot be read as jsonl: line {number} is no object; write one row a line, "
                        'as {"text": ..., "label": ...}'
                    )
                there.update(dict.fromkeys(row))
                if all(name in there for name in wanted):
                    break
    except json.JSONDecodeError as exc:
        raise DataError(f"{path.name} cannot be read as jsonl: line {number}: {exc}") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise _unreadable(path, "jsonl", exc) from exc
    return list(there)


def _unreadable(path: Path, form: str, exc: Exception) -> DataError:
    return DataError(f"{path} cannot be read as {form}: {exc}. Mend the file, or set `format` to what it is")
