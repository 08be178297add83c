"""What the cells of a CSV file say.

A cell has no type: `01` may be a code, `True` a word and `2020-01-01` a name. So cells are read as text, and a column
becomes numbers only where nothing that its author wrote is lost, or where it was said to hold numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

_WHOLE = re.compile(r"(0|-?[1-9][0-9]*)(\.0+)?")


def typed_alike(columns: Sequence[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """One column of several files. Where it must stay text in one file, it stays text in all."""
    typed = [typed_cells(column) for column in columns]
    if any(pa.types.is_large_string(column.type) for column in typed):
        return [column.cast(pa.large_string()) for column in columns]
    return typed


def typed_cells(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cells of one file as numbers, where that can be undone, else as the text that they are.

    Returns:
        null: every cell is blank.
        int64: every cell is a whole number, all in one spelling: `7` throughout, or `7.0` as programs write whole
            numbers with a gap among them. Not `07`, `+7` or `1E2`, and not `7` beside `7.0`: such cells are codes.
        double: every cell is a number (or stands for a missing one), and some have a fraction.
        large_string: anything else.
    """
    distinct = pc.unique(cells)
    written = [text.strip() for text in distinct.to_pylist()]
    if not any(written):
        return pa.chunked_array([pa.nulls(len(cells))])
    whole = _whole_numbers(written)
    if whole is not None:
        return whole.take(pc.index_in(cells, distinct))
    numbers = numbers_in(cells)
    if numbers is not None and pa.types.is_floating(numbers.type):
        finite = numbers.filter(pc.is_finite(numbers))
        if pc.any(pc.not_equal(pc.floor(finite), finite)).as_py():
            return numbers
    return cells.cast(pa.large_string())


def numbers_in(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The numbers of a column that was said to hold some, int64 or double; None if a text is no number."""
    trimmed = pc.utf8_trim_whitespace(texts.cast(pa.large_string()))
    missing = pc.is_in(trimmed, _no_number())
    numbers = pc.if_else(missing, None, trimmed)
    for kind in (pa.int64(), pa.float64()):
        try:
            return numbers.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None


def _whole_numbers(written: Sequence[str]) -> pa.Array | None:
    numbers: list[int | None] = []
    endings = set()
    for text in written:
        found = _WHOLE.fullmatch(text)
        if text and found is None:
            return None
        numbers.append(int(found[1]) if found else None)
        if found:
            endings.add(found[2])
    try:
        return pa.array(numbers, pa.int64()) if len(endings) == 1 else None
    except OverflowError:  # too long for a number: an id, and a text like any other
        return None


@cache
def _no_number() -> pa.Array:
    """How programs write a number that is missing: NA, nan, NULL ... Beside classes each of these is a class."""
    return pa.array(pa_csv.ConvertOptions().null_values, pa.large_string())
