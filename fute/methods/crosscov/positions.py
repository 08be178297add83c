"""Answer spans as the numbers that crosscov works on: is there an answer, and where in the context."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fute.methods.crosscov.whitening import Doubles


def expected_positions(
    starts: NDArray[np.integer],
    ends: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    context_lengths: NDArray[np.integer],
) -> Doubles:
    """Whether there is an answer, its start and its end as shares of the context, expected over the candidates.

    Shares, for positions are comparable between contexts of other lengths. What the candidates leave of the
    probability belongs to spans that are not known, so they count as if they were all there are.

    Args:
        starts, ends, probabilities: (n, k) candidates; -1, -1 for "no answer", which has position 0.
        context_lengths: (n,) characters.

    Returns:
        (n, 3).
    """
    weights = probabilities.astype(np.float64)
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)  # (n, k)
    weights = np.where(starts >= 0, weights, 0.0)
    lengths = np.maximum(context_lengths, 1)
    return np.column_stack(
        [weights.sum(axis=1), (weights * starts).sum(axis=1) / lengths, (weights * ends).sum(axis=1) / lengths]
    )
