"""Rows that are already in memory, as Arrow tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fute.data.columns import describe_missing
from fute.errors import DataError

if TYPE_CHECKING:
    import datasets

_DATASET = ("column_names", "features", "num_rows", "select_columns", "with_format")
"""What a datasets.Dataset is recognised by: importing the library takes seconds, and one that another thread is
importing has no Dataset yet."""


def tables_from_rows(rows: Any, columns: Sequence[str], where: str) -> dict[str, pa.Table]:
    """Rows of each split, or the training rows alone, as Arrow tables of the columns asked for.

    Args:
        rows: a table, or {split: table}. A table is {column: values}, a list of {column: value}, a `datasets.Dataset`,
            an Arrow table, or a data frame of pandas, polars and their kin.

    Raises:
        DataError: another shape, a missing column, columns of different lengths, mixed types.
    """
    if not _are_splits(rows, columns):
        return {"train": _any_table(rows, columns, where)}
    return {split: _any_table(table, columns, f"{where} ({split})") for split, table in rows.items()}


def _are_splits(rows: Any, columns: Sequence[str]) -> bool:
    """Whether a mapping is one from splits to tables: it names no column that is asked for."""
    return isinstance(rows, Mapping) and bool(rows) and not set(columns) & set(rows)


def _any_table(rows: Any, columns: Sequence[str], where: str) -> pa.Table:
    if all(hasattr(rows, name) for name in _DATASET):
        return arrow_table(rows, columns, where)
    if hasattr(rows, "__arrow_c_stream__") and not hasattr(rows, "iloc"):
        rows = pa.table(rows)  # Arrow's own, of polars, an answer of DuckDB
        if problem := describe_missing(where, rows.column_names, columns):
            raise DataError(problem)
        return rows.select(list(dict.fromkeys(columns)))
    if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
        there = dict.fromkeys(name for row in rows for name in row)
        rows = {name: [row.get(name) for row in rows] for name in there}
    # A frame of pandas, whose columns hold anything, is read as a mapping is: an error then names the column.
    if (isinstance(rows, Mapping) and rows) or hasattr(rows, "iloc"):
        return _table(rows, columns, where)
    raise DataError(
        f"{where} gave {type(rows).__name__}; give {{column: list}}, a list of {{column: value}}, a data frame, an "
        "Arrow table or a datasets.Dataset, or one of these for each split: {train: ..., test: ...}"
    )


def arrow_table(rows: datasets.Dataset, columns: Sequence[str], where: str) -> pa.Table:
    """Columns of a `datasets.Dataset` as an Arrow table that keeps its features (the names of a ClassLabel).

    Raises:
        DataError: a column is missing.
    """
    if problem := describe_missing(where, rows.column_names, columns):
        raise DataError(problem)
    chosen = rows.select_columns(list(dict.fromkeys(columns)))
    table = chosen.with_format("arrow")[:]
    return table.replace_schema_metadata(chosen.features.arrow_schema.metadata)


def _table(values: Any, columns: Sequence[str], where: str) -> pa.Table:
    there = list(values) if isinstance(values, Mapping) else list(getattr(values, "columns", ()))
    if problem := describe_missing(where, there, columns):
        raise DataError(problem)
    arrays = {}
    for name in dict.fromkeys(columns):
        try:
            # from_pandas: NaN in a column of text is a missing value, as pandas means it.
            arrays[name] = pa.array(values[name], from_pandas=True)
        except (pa.ArrowException, UnicodeError, TypeError, OverflowError) as exc:
            raise DataError(f"{where}: column {name!r} cannot be read: {exc}; give values of one kind") from exc
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{where}: columns of different lengths: {lengths}")
    return pa.table(arrays)
