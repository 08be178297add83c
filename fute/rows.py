"""Rows that are no texts: the values of a table's columns, kept as JSON where a text would stand.

So they are sampled, compared, stored and named as texts are, and SQL reads them. A value is a number, a text, a
boolean, a list of these (an image, a vector), or null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fute.errors import DataError
from fute.types import TextTable

WHOLE = 2.0**53  # up to it a float that is whole is written as a whole number, so that 7 and 7.0 are one value


def row_texts(table: pa.Table, columns: Sequence[str], where: str) -> list[str | None]:
    """Each row as JSON; None where no column has a value.

    Raises:
        DataError: a value that is none of a row's, such as a date or infinity.
    """
    values = {}
    for name in columns:
        try:
            column = table.column(name)
            plain = _single if _is_single(column.type) else _plain
            values[name] = [plain(value) for value in column.to_pylist()]
        except ValueError as exc:
            raise DataError(
                f"{where}: column {name!r} holds {exc}; a row has numbers, texts, booleans, and lists of them"
            ) from exc
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*values.values(), strict=True))
    return [
        None if all(value is None for value in row.values()) else json.dumps(row, ensure_ascii=False, allow_nan=False)
        for row in rows
    ]


def _is_single(type_: pa.DataType) -> bool:
    while pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        type_ = type_.value_type
    return bool(pa.types.is_float32(type_))


def _single(value: Any) -> Any:
    """A float of 32 bits as it is written, so that it is the same value in a Parquet file and in a CSV."""
    if isinstance(value, list):
        return [_single(one) for one in value]
    return _plain(value if value is None else float(str(np.float32(value))))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        if math.isinf(value):
            raise ValueError("infinity")
        return None if math.isnan(value) else int(value) if value.is_integer() and abs(value) < WHOLE else value
    if value == "":  # what a gap in a CSV is read as
        return None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise ValueError(type(value).__name__)


def rows_of(inputs: TextTable) -> list[Any]:
    """The rows as a model is given them: {column: value}, or the value alone where there is one column."""
    rows = [json.loads(text) for text in inputs.texts]
    (only, *more) = inputs.columns or ("",)
    return rows if more else [row[only] for row in rows]


def arrays_of(inputs: TextTable) -> dict[str, NDArray[Any]]:
    """Each column as (n,) or (n, ...) float64, missing numbers as NaN; as (n,) objects where it holds anything else."""
    rows = [json.loads(text) for text in inputs.texts]
    return {name: _array([row[name] for row in rows]) for name in inputs.columns or ()}


def _array(values: list[Any]) -> NDArray[Any]:
    known = [value for value in values if value is not None]
    try:
        if any(isinstance(value, str) for value in known):
            raise ValueError
        whole = np.asarray(known, dtype=np.float64)
    except (ValueError, TypeError):  # texts, or lists of different lengths
        objects = np.empty(len(values), dtype=object)
        objects[:] = values
        return objects
    array = np.full((len(values), *whole.shape[1:]), np.nan)
    array[[value is not None for value in values]] = whole
    return array
