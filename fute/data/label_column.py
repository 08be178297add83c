"""Labels of any type as one of a few, without a guess: what stands in a table is what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fute.errors import DataError


def plain_labels(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """The labels of a column; a blank text and NaN are no label.

    Returns:
        large_string, bool, int64 (also of floats and decimals that are whole numbers), double (some have a
        fraction), or null where every label is missing.

    Raises:
        DataError: another type, or numbers of which a table of its type cannot tell all apart.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column))])
    if is_text(kind) or pa.types.is_temporal(kind):
        text = column.cast(pa.large_string())
        return _kept(text, pc.not_equal(pc.utf8_trim_whitespace(text), ""))
    if pa.types.is_boolean(kind):
        return column
    if not is_number(kind):
        raise DataError(f"{where} holds {kind}; a label is a text, a number or a boolean")
    try:
        return column.cast(pa.int64()) if pa.types.is_integer(kind) else _plain_numbers(column, where)
    except pa.ArrowInvalid as exc:
        raise DataError(f"{where} holds numbers that are too large for a label: {exc}; write them as text") from exc


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _plain_numbers(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    numbers = column.cast(pa.float64())
    numbers = _kept(numbers, pc.invert(pc.is_nan(numbers)))
    if not pc.all(pc.equal(pc.floor(numbers), numbers)).as_py():
        return numbers
    if pc.any(pc.is_inf(numbers)).as_py():
        raise DataError(f"{where} holds an infinite number, which is no label; leave it blank or take the row out")
    if pa.types.is_decimal(column.type):
        return column.cast(pa.int64())
    # From here on two whole numbers may have become one when the table was written.
    limit = 2 ** (np.finfo(column.type.to_pandas_dtype()).nmant + 1)
    if pc.any(pc.greater_equal(pc.abs(numbers), float(limit))).as_py():
        raise DataError(
            f"{where} holds {column.type} numbers of {limit} and more, which cannot all be told apart; write them as "
            "whole numbers or as text"
        )
    return numbers.cast(pa.int64())


def _kept(column: pa.ChunkedArray, condition: Any) -> pa.ChunkedArray:
    """The column with null where the condition does not hold."""
    return pc.if_else(condition, column, pa.scalar(None, column.type))
