"""Targets of regression and of span question answering."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fute.data.cells import numbers_in
from fute.data.faults import Fault, Targets, found, mask
from fute.data.label_column import is_number, is_text
from fute.errors import DataError


def number_targets(column: pa.ChunkedArray, name: str, split: str) -> Targets:
    """Numbers of a regression, (n,) float32. Numbers that are written as text are numbers: the task says so.

    Raises:
        DataError: the column holds no numbers.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_text(column.type):
        numbers = numbers_in(column)
        if numbers is None:
            odd = next(row for row in range(len(column)) if numbers_in(column.slice(row, 1)) is None)
            raise DataError(
                f"{split}: the label column {name!r} holds text that is no number (row {odd}: "
                f"{column[odd].as_py()!r}); a regression needs numbers, with a point before their decimals"
            )
        column = numbers
    if not (is_number(column.type) or pa.types.is_null(column.type)):
        raise DataError(f"{split}: the label column {name!r} holds {column.type}; a regression needs numbers")
    missing = mask(pc.is_null(column))
    numbers = np.asarray(pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy(), dtype=np.float64)
    with np.errstate(over="ignore"):
        values = numbers.astype(np.float32)
    return Targets(
        values,
        found(
            Fault("null", f"with no label in column {name!r}", missing),
            Fault("label", f"whose label in column {name!r} is not a finite number", ~np.isfinite(values) & ~missing),
        ),
    )


def span_targets(column: pa.ChunkedArray, contexts: pa.ChunkedArray, name: str, split: str) -> Targets:
    """The first answer of each question as character offsets [start, end) in its context, (n, 2) int64.

    Args:
        column: answers as in SQuAD: {text: [...], answer_start: [...]}, or a list of {text, answer_start}. No answer
            at all: the question has none, (-1, -1).

    Raises:
        DataError: the column holds something else.
    """
    if not _holds_answers(column.type):
        raise DataError(
            f"{split}: the label column {name!r} holds {column.type}; span QA needs answers as in SQuAD: "
            "{text: [...], answer_start: [...]}, with character offsets in the context (Parquet or JSONL)"
        )
    values = np.full((len(column), 2), -1, dtype=np.int64)
    missing, uneven, elsewhere = (np.zeros(len(column), dtype=bool) for _ in range(3))
    first = ""
    for row, (answers, context) in enumerate(zip(column.to_pylist(), contexts.to_pylist(), strict=True)):
        if answers is None:
            missing[row] = True
            continue
        texts, starts = _answer_lists(answers)
        if len(texts) != len(starts) or None in texts[:1] or None in starts[:1] or "" in texts[:1]:
            uneven[row] = True
        elif texts:
            start, end = starts[0], starts[0] + len(texts[0])
            values[row] = start, end
            if context is not None and (start < 0 or context[start:end] != texts[0]):
                elsewhere[row] = True
                there = _short(context[max(start, 0) : end])
                first = first or f"first: {_short(texts[0])} at {start}, where the context has {there}"
    return Targets(
        values,
        found(
            Fault("null", f"with null in column {name!r} (no answer is two empty lists)", missing),
            Fault("label", f"in column {name!r} with an empty answer, or not one offset for each answer", uneven),
            Fault("label", f"in column {name!r} whose answer is not at its offset ({first})", elsewhere),
        ),
    )


def _answer_lists(answers: Any) -> tuple[list[Any], list[Any]]:
    if isinstance(answers, dict):
        return answers["text"] or [], answers["answer_start"] or []
    return [a and a["text"] for a in answers], [a and a["answer_start"] for a in answers]


def _holds_answers(kind: pa.DataType) -> bool:
    if _is_list(kind):  # a list of {text, answer_start}
        kind = kind.value_type
        inner = {f.name: f.type for f in kind.fields} if pa.types.is_struct(kind) else {}
    elif pa.types.is_struct(kind):
        inner = {f.name: f.type.value_type if _is_list(f.type) else pa.list_(f.type) for f in kind.fields}
    else:
        return False
    # A list that is empty in every row has no type of its own.
    text, start = inner.get("text"), inner.get("answer_start")
    return (
        text is not None
        and start is not None
        and (is_text(text) or pa.types.is_null(text))
        and (pa.types.is_integer(start) or pa.types.is_null(start))
    )


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
