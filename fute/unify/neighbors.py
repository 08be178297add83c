"""Ranked nearest neighbours: dataset to model, model to dataset, model to model, dataset to dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fute.types import Kind
from fute.unify.frame import KINDS


@dataclass(frozen=True)
class Neighbor:
    query: int
    candidate: int
    rank: int
    score: float


def nearest_neighbors(similarity: NDArray[np.float32], kinds: Sequence[Kind], limit: int) -> list[Neighbor]:
    """For each subject and each kind of candidate, the `limit` nearest others, best first.

    Args:
        similarity: (n, n).

    Equal scores keep the order of the subjects, so that a ranking is the same in every run.
    """
    found = []
    kind_of = np.asarray(kinds)
    for query in range(len(similarity)):
        for kind in KINDS:
            candidates = np.flatnonzero(kind_of == kind)
            candidates = candidates[candidates != query]
            scores = similarity[query, candidates]
            for rank, i in enumerate(np.argsort(-scores, kind="stable")[:limit], start=1):
                found.append(Neighbor(query, int(candidates[i]), rank, float(scores[i])))
    return found
