"""Rows that are already in memory, or that a Python function returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fute.config import PythonSource
from fute.data.files import describe_missing
from fute.data.hub import arrow_table
from fute.entry_point import load_entry_point
from fute.errors import DataError, FuteError

_DATASET = ("column_names", "features", "num_rows", "select_columns", "with_format")
"""What a datasets.Dataset is recognised by: importing the library takes seconds, and one that another thread is
importing has no Dataset yet."""


def read_python(source: PythonSource, columns: Sequence[str], base_dir: Path) -> dict[str, pa.Table]:
    """Call the source's function and take the columns of what it returns.

    Raises:
        ConfigError, ModelError: the function cannot be loaded.
        DataError: it raised, or what it returned are no rows.
    """
    function = load_entry_point(source.entry_point, base_dir)
    try:
        rows = function(**source.kwargs)
    except FuteError:
        raise
    except Exception as exc:
        raise DataError(f"{source.entry_point} raised {type(exc).__name__}: {exc}") from exc
    return tables_from_rows(rows, columns, source.entry_point)


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
