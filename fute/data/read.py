"""Columns of any source as Arrow tables, one a split, and the source's identity.

Each kind of source is a reader of its own in `fute/data/readers`, named in READERS.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from fute.config import Source
from fute.data.label_column import is_text
from fute.data.readers.files import FileReader
from fute.data.readers.hub import HubReader
from fute.data.readers.python import PythonReader
from fute.data.readers.sql import sql_reader
from fute.did_you_mean import did_you_mean
from fute.errors import ConfigError, DataError

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


class Reader(Protocol):
    """What fute asks of a kind of source, made from its settings and the folder that relative paths start from.

    What is wrong is raised as ConfigError (a file or function that is not there) or DataError (all else).
    """

    def tables(self, text: Sequence[str], other: Sequence[str]) -> dict[str, pa.Table]:
        """Columns of each split; a column of text may come as any Arrow type that holds text."""

    def remarks(self, columns: Sequence[str]) -> list[str]:
        """What it had to guess in order to read these columns, in words."""

    def identity(self) -> dict[str, Any]:
        """What decides the rows, as JSON: digests, a commit. Where they lie and under which name is no part of it."""

    def problems(self, columns: Sequence[str]) -> list[str]:
        """What can be seen to be wrong without reading rows or going online."""

    def split_names(self) -> list[str] | None:
        """The splits, where the settings name them; None: known once the rows are read."""

    def parts(self) -> Sequence[tuple[str, Source]]:
        """The sources of a pool that it stands for, each with the id that it has by default."""


READERS: dict[str, Callable[[Any, Path], Reader]] = {
    "files": FileReader,
    "hub": HubReader,
    "python": PythonReader,
    "sql": sql_reader,
}
"""`source` of the settings (`fute.config.Source`) -> its reader."""


def reader_of(source: Source, base_dir: Path) -> Reader:
    return READERS[source.source](source, base_dir)


def read_tables(source: Source, text: Sequence[str], other: Sequence[str], base_dir: Path) -> dict[str, pa.Table]:
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
    return read_tables_as(source, text, other, base_dir)[0]


def read_tables_as(
    source: Source, text: Sequence[str], other: Sequence[str], base_dir: Path
) -> tuple[dict[str, pa.Table], list[str]]:
    """The same tables, and what had to be guessed to read them, which is also logged."""
    reader = reader_of(source, base_dir)
    tables = reader.tables(text, other)
    remarks = reader.remarks([*text, *other])
    for remark in remarks:
        log.info("%s", remark)
    return {split: with_text(table, text, split) for split, table in tables.items()}, remarks


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


def source_identity(source: Source, base_dir: Path) -> dict[str, Any]:
    """What decides the rows of a source, as JSON.

    Raises:
        ConfigError, DataError: a file, function or hub dataset that cannot be found.
    """
    return {"source": source.source, **reader_of(source, base_dir).identity()}


def source_problems(source: Source, columns: Sequence[str], base_dir: Path) -> list[str]:
    """What can be seen to be wrong without reading rows or going online: files, their columns, functions."""
    try:
        return reader_of(source, base_dir).problems(columns)
    except (ConfigError, DataError) as exc:
        return [str(exc)]


def split_name_problems(source: Source, base_dir: Path) -> list[str]:
    """Splits of a labelled dataset that are called something else than train, validation, test."""
    try:
        names = reader_of(source, base_dir).split_names()
    except (ConfigError, DataError):
        return []  # `source_problems` says it
    return [] if names is None else check_split_names(names)


def check_split_names(names: Sequence[str]) -> list[str]:
    problems = [
        f"{name!r} is no split; splits are called {', '.join(SPLITS)}{did_you_mean(name, SPLITS)}"
        for name in names
        if name not in SPLITS
    ]
    if "train" not in names:
        problems.append(f"there is no split 'train' (there is: {', '.join(map(str, names)) or 'none'}); name one")
    return problems
