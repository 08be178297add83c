"""Spans and the contexts that they were given for."""

from __future__ import annotations

import numpy as np

from fute.errors import OutputsError
from fute.spans import Ints, unpack_spans
from fute.types import Outputs, TextTable


def context_lengths(table: TextTable) -> Ints:
    """(n,) characters of each row's context; 0 where there is none, so that no question can be answered there."""
    if table.pairs is None:
        return np.zeros(len(table), dtype=np.int64)
    return np.array([len(pair) if pair and not pair.isspace() else 0 for pair in table.pairs], dtype=np.int64)


def check_spans(outputs: Outputs, table: TextTable) -> Outputs:
    """Refuse spans outside the contexts that they were given for; return the outputs, of whatever kind.

    Raises:
        OutputsError: a span ends behind its context, or its row has none.
    """
    if outputs.kind != "spans":
        return outputs
    rows = outputs.answered_rows
    starts, ends, _ = unpack_spans(outputs.values[rows])
    lengths = context_lengths(table)[rows]
    outside = ends > lengths[:, None]
    if outside.any():
        line, candidate = np.argwhere(outside)[0]
        there = f"its context has {lengths[line]} characters" if lengths[line] else "that input has no context"
        raise OutputsError(
            f"a span outside its text: row {rows[line]} has [{starts[line, candidate]}, {ends[line, candidate]}), but "
            f"{there} ({int(outside.any(axis=1).sum())} such rows); give character offsets in the context of this pool"
        )
    # "No answer" is an answer only where there was a context to look through.
    if (lengths == 0).any():
        raise OutputsError(
            f"row {rows[int((lengths == 0).argmax())]} has no context, yet counts as answered "
            f"({int((lengths == 0).sum())} such rows); mark inputs without a context as not answered"
        )
    return outputs
