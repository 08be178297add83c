"""Columns of any source as Arrow tables, one a split, and the source's identity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fute.config import FileSource, HubSource, PythonSource
from fute.data.cells import typed_alike
from fute.data.declared_names import one_declaration
from fute.data.files import file_format, missing_columns, read_file, split_files
from fute.data.hub import read_hub, resolve_commit
from fute.data.label_column import is_text
from fute.data.rows import read_python
from fute.did_you_mean import did_you_mean
from fute.entry_point import entry_point_identity
from fute.errors import ConfigError, DataError
from fute.fingerprint import digest_file

SPLITS = ("train", "validation", "test")


def read_tables(
    source: FileSource | HubSource | PythonSource, text: Sequence[str], other: Sequence[str], base_dir: Path
) -> dict[str, pa.Table]:
    """Read the columns asked for.

    Args:
        text: columns of text; whatever a CSV file's values look like, they stay text.
        other: columns of any type, of a CSV file as `fute.data.cells` says. The class numbers of files that declare
            different names for them are made the same.
        base_dir: relative paths and entry points start here.

    Returns:
        A table for each split, in the source's order, text columns as Arrow strings.

    Raises:
        ConfigError: a file or function that is not there.
        DataError: unreadable, a missing column, a text column that holds something else.
    """
    columns = [*text, *other]
    if isinstance(source, FileSource):
        tables = _read_files(source, text, other, base_dir)
    elif isinstance(source, HubSource):
        tables = read_hub(source, columns)
    else:
        tables = read_python(source, columns, base_dir)
    return {split: with_text(table, text, split) for split, table in tables.items()}


def with_text(table: pa.Table, text: Sequence[str], where: str) -> pa.Table:
    """The table with its text columns as valid Arrow strings.

    Raises:
        DataError: such a column holds something else, or bytes that are no UTF-8.
    """
    for name in dict.fromkeys(text):
        column = table.column(name)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (is_text(kind) or pa.types.is_null(kind)):
            raise DataError(f"{where}: column {name!r} holds {column.type}, not text; name a column of text")
        try:
            column.validate(full=True)
            column = column.cast(pa.large_string())
        except pa.ArrowException as exc:
            raise DataError(f"{where}: column {name!r} holds text that is no valid UTF-8: {exc}") from exc
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def source_identity(source: FileSource | HubSource | PythonSource, base_dir: Path) -> dict[str, Any]:
    """What decides the rows of a source, as JSON: digests of files, the hub's commit, a function and its arguments.

    Where a file lies and what it is called is no part of it.

    Raises:
        ConfigError, DataError: a file, function or hub dataset that cannot be found.
    """
    if isinstance(source, FileSource):
        files = split_files(source, base_dir)
        return {
            "source": "files",
            "files": {s: [[file_format(f, source.format), digest_file(f)] for f in fs] for s, fs in files.items()},
        }
    if isinstance(source, HubSource):
        commit = resolve_commit(source)
        return {
            "source": "hub",
            "name": source.name,
            "subset": source.subset,
            "commit": commit,
            "splits": dict(source.splits),
        }
    function = entry_point_identity(source.entry_point, base_dir)
    return {"source": "python", **function, "kwargs": source.kwargs, "revision": source.revision}


def source_problems(source: FileSource | HubSource | PythonSource, columns: Sequence[str], base_dir: Path) -> list[str]:
    """What can be seen to be wrong without reading rows or going online: files, their columns, functions."""
    problems = []
    try:
        if isinstance(source, FileSource):
            for files in split_files(source, base_dir).values():
                for file in files:
                    if problem := missing_columns(file, file_format(file, source.format), columns):
                        problems.append(problem)
        elif isinstance(source, PythonSource):
            entry_point_identity(source.entry_point, base_dir)
    except (ConfigError, DataError) as exc:
        problems.append(str(exc))
    return problems


def split_name_problems(source: FileSource | HubSource | PythonSource) -> list[str]:
    """Splits of a labelled dataset that are called something else than train, validation, test."""
    if isinstance(source, FileSource):
        names = ["train"] if isinstance(source.files, str) else list(source.files)
    elif isinstance(source, HubSource):
        names = list(source.splits)
    else:
        return []
    return check_split_names(names)


def check_split_names(names: Sequence[str]) -> list[str]:
    problems = [
        f"{name!r} is no split; splits are called {', '.join(SPLITS)}{did_you_mean(name, SPLITS)}"
        for name in names
        if name not in SPLITS
    ]
    if "train" not in names:
        problems.append(f"there is no split 'train' (there is: {', '.join(map(str, names)) or 'none'}); name one")
    return problems


def _read_files(source: FileSource, text: Sequence[str], other: Sequence[str], base_dir: Path) -> dict[str, pa.Table]:
    tables: dict[str, list[pa.Table]] = {}
    cells: list[tuple[str, int]] = []  # tables of CSV files: split, and place in it
    for split, files in split_files(source, base_dir).items():
        tables[split] = []
        for file in files:
            form = file_format(file, source.format)
            if form == "csv":
                cells.append((split, len(tables[split])))
            tables[split].append(read_file(file, form, [*text, *other]))
    for name in (name for name in dict.fromkeys(other) if name not in text):
        typed = typed_alike([tables[split][i].column(name) for split, i in cells])
        for (split, i), column in zip(cells, typed, strict=True):
            table = tables[split][i]
            tables[split][i] = table.set_column(table.schema.get_field_index(name), name, column)
    return {split: _stack(parts, other, split) for split, parts in tables.items()}


def _stack(tables: list[pa.Table], labels: Sequence[str], split: str) -> pa.Table:
    if len(tables) == 1:
        return tables[0]
    for name in labels:
        tables = one_declaration(tables, name, split)
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as exc:
        raise DataError(f"{split}: its files do not fit together: {exc}; give them the same types of columns") from exc
