"""Outputs of kind "spans": where in its context a question answerer sees the answer, as numbers.

A row holds k candidates, most probable first: start, end, probability. Offsets are characters of the context,
[start, end), and -1, -1 for "there is no answer". A candidate that is not used is -1, -1 with probability 0, and so is
every candidate of a row that was not answered. float32 holds offsets exactly up to 16,777,216.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.errors import OutputsError

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

NO_ANSWER = -1
UNUSED = (NO_ANSWER, NO_ANSWER, 0.0)
"""A candidate that is none."""
MIN_ANSWERED_SPANS = 16
"""Fewer answered rows are refused. A number, not a share: most rows of a pool are single texts, without a context."""


def pack_spans(starts: NDArray[Any], ends: NDArray[Any], probabilities: NDArray[Any]) -> Floats:
    """Candidates as values of Outputs, most probable first.

    Args:
        starts, ends, probabilities: (n, k) each, in any order.

    Returns:
        (n, 3k) float32.
    """
    candidates = np.stack([starts, ends, probabilities], axis=2).astype(np.float32)  # (n, k, 3)
    order = np.argsort(-candidates[:, :, 2], axis=1, kind="stable")
    return np.take_along_axis(candidates, order[:, :, None], axis=1).reshape(len(candidates), -1)


def unpack_spans(values: NDArray[np.floating]) -> tuple[Ints, Ints, Floats]:
    """(n, 3k) values -> starts (n, k), ends (n, k), probabilities (n, k).

    Raises:
        OutputsError: the columns are not triples.
    """
    if values.ndim != 2 or values.shape[1] % 3 or values.shape[1] == 0:
        raise OutputsError(
            f"spans have shape {values.shape}; give start, end and probability for each candidate of an input, "
            "side by side: (inputs, 3 x candidates)"
        )
    candidates = values.reshape(len(values), -1, 3)
    return candidates[:, :, 0].astype(np.int64), candidates[:, :, 1].astype(np.int64), candidates[:, :, 2].astype("f4")


def validate_spans(values: Floats) -> None:
    """Refuse values that are no candidates, whatever the contexts are.

    Args:
        values: (n, 3k) of the answered rows, finite.

    Raises:
        OutputsError: no triples, offsets that are no span, probabilities out of range, or not in order.
    """
    unpack_spans(values)
    candidates = values.reshape(len(values), -1, 3)
    starts, ends, probabilities = candidates[:, :, 0], candidates[:, :, 1], candidates[:, :, 2]
    none = (starts == NO_ANSWER) & (ends == NO_ANSWER)
    whole = (starts == np.round(starts)) & (ends == np.round(ends))
    wrong = ~none & ~(whole & (starts >= 0) & (starts < ends))
    if wrong.any():
        row, candidate = np.argwhere(wrong)[0]
        raise OutputsError(
            f"{int(wrong.any(axis=1).sum())} rows hold offsets that are no span, [{starts[row, candidate]:g}, "
            f"{ends[row, candidate]:g}) for one; give whole numbers, 0 <= start < end, or -1 and -1 for no answer"
        )
    sums = probabilities.sum(axis=1)
    if (probabilities < -1e-6).any() or (sums > 1 + 1e-3).any():
        raise OutputsError(
            f"probabilities of candidates lie between {probabilities.min():.4g} and {probabilities.max():.4g}, and the "
            f"largest sum of a row is {sums.max():.4g}; none may be below 0 and no sum above 1"
        )
    if (sums <= 0).any():
        raise OutputsError(
            f"{int((sums <= 0).sum())} answered rows hold no candidate with a probability above 0; "
            "mark them as not answered"
        )
    if (np.diff(probabilities, axis=1) > 1e-6).any():
        raise OutputsError("candidates are not in order; put the most probable first (fute.spans.pack_spans does)")
