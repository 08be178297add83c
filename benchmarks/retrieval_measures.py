"""Retrieval: does the nearest embedding do the same task?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Retrieval:
    """Means over the queries that have at least one relevant candidate.

    Attributes:
        p_at_1: share of queries whose first candidate is relevant.
        mrr: mean of 1 / rank of the first relevant candidate.
        map: mean average precision over all relevant candidates.
        queries: how many queries counted.
    """

    p_at_1: float
    mrr: float
    map: float
    queries: int


def retrieval(
    scores: NDArray[np.floating], relevant: NDArray[np.bool_], allowed: NDArray[np.bool_] | None = None
) -> Retrieval:
    """Measure ranked lists.

    Args:
        scores: (queries, candidates), higher is nearer.
        relevant: (queries, candidates).
        allowed: (queries, candidates), False for candidates that a query may not see (itself, say).

    Ties are broken against the query: among equal scores the irrelevant come first, so that a constant score earns
    nothing.
    """
    allowed = np.ones(scores.shape, dtype=bool) if allowed is None else allowed
    firsts, reciprocals, precisions = [], [], []
    for row in range(len(scores)):
        columns = np.flatnonzero(allowed[row])
        hits = relevant[row, columns]
        if not hits.any():
            continue
        order = np.lexsort((hits, -scores[row, columns]))
        ranks = np.flatnonzero(hits[order]) + 1
        firsts.append(ranks[0] == 1)
        reciprocals.append(1 / ranks[0])
        precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    if not firsts:
        return Retrieval(float("nan"), float("nan"), float("nan"), 0)
    return Retrieval(float(np.mean(firsts)), float(np.mean(reciprocals)), float(np.mean(precisions)), len(firsts))
