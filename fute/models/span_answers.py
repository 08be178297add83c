"""Answer spans that were found by foreign code, turned into Outputs, or a clear refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.errors import ModelError, OutputsError
from fute.span_contexts import check_spans, context_lengths
from fute.spans import NO_ANSWER, UNUSED, pack_spans, unpack_spans
from fute.types import Outputs, TextTable


def outputs_from_spans(
    model_id: str,
    values: NDArray[np.floating],
    answered: NDArray[np.bool_],
    table: TextTable,
    details: Mapping[str, Any] | None = None,
) -> Outputs:
    """Spans for the inputs of a table. "No answer" where there is no context to look through is no answer at all.

    Args:
        values: (n, 3k) start, end, probability of each candidate, in any order.
        answered: (n,) rows that hold something.

    Raises:
        ModelError: no candidates, or a span outside its context.
    """
    lengths = context_lengths(table)
    try:
        starts, _, _ = unpack_spans(values)
        kept = answered & ((lengths > 0) | (starts > NO_ANSWER).any(axis=1))
        candidates = values.reshape(len(values), -1, 3)
        candidates = np.where(kept[:, None, None], candidates, UNUSED)
        packed = pack_spans(candidates[:, :, 0], candidates[:, :, 1], candidates[:, :, 2])
        counted = {**(details or {}), "rows_without_context": int((lengths == 0).sum())}
        return check_spans(Outputs("spans", packed, None, None if kept.all() else kept, counted), table)
    except OutputsError as exc:
        raise ModelError(f"{model_id}: {exc}") from exc


def locate_answers(
    answers: Sequence[tuple[str, float] | None], table: TextTable
) -> tuple[list[list[float] | None], int]:
    """Answer texts as spans: [start, end, probability] of the first occurrence in each context.

    Args:
        answers: n (text, probability); an empty text means "no answer", None that nothing is known of the input.

    Returns:
        n spans, None where the text is not in the context; and how many were not.
    """
    spans: list[list[float] | None] = [None] * len(answers)
    n_missing = 0
    for row, answer in enumerate(answers):
        if answer is None:
            continue
        text, probability = answer[0].strip(), answer[1]
        start = NO_ANSWER if not text else ((table.pairs[row] if table.pairs else None) or "").find(text)
        if text and start < 0:
            n_missing += 1
            continue
        spans[row] = [start, start + len(text) if text else NO_ANSWER, probability]
    return spans, n_missing
