"""Rows that are already in memory, as Arrow tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fute.data.files import describe_missing
from fute.errors import DataError

if TYPE_CHECKING:
    import datasets

_DATASET = ("column_names", "features", "num_rows", "select_columns", "with_format")
"""What a datasets.Dataset is recognised by: importing the library takes seconds, and one that another thread is
importing has no Dataset yet."""


def tables_from_rows(rows: Any, columns: Sequence[str], where: str) -> dict[str, pa.Table]:
    """{split: {column: values}}, or a `datasets.DatasetDict`, as Arrow tables of the columns asked for.

    Raises:
        DataError: another shape, a missing column, columns of different lengths, mixed types.
    """
    if not isinstance(rows, Mapping) or not rows:
        raise DataError(
            f"{where} gave {type(rows).__name__}; give {{split: {{column: list}}}} or a datasets.DatasetDict"
        )
    tables = {}
    for split, values in rows.items():
        here = f"{where} ({split})"
        if isinstance(values, Mapping):
            tables[split] = _table(values, columns, here)
        elif all(hasattr(values, name) for name in _DATASET):
            tables[split] = arrow_table(values, columns, here)
        else:
            raise DataError(f"{here} is {type(values).__name__}; give a mapping from column to list")
    return tables


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


def _table(values: Mapping[str, Any], columns: Sequence[str], where: str) -> pa.Table:
    if problem := describe_missing(where, list(values), columns):
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
