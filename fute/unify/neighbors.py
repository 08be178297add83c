"""Ranked nearest neighbours: dataset to model, model to dataset, model to model, dataset to dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fute.types import Kind
from fute.unify.frame import KINDS

DIGITS = 4  # of scores: what differs beyond is how a machine adds up, and decides no rank


@dataclass(frozen=True)
class Neighbor:
    """Attributes:
    score: see fute.unify.frame; a cosine where the space has no frame.
    candidates: how many it is the best of.
    """

    query: int
    candidate: int
    rank: int
    score: float
    candidates: int


def nearest_neighbors(scores: NDArray[np.floating], kinds: Sequence[Kind], limit: int) -> list[Neighbor]:
    """For each subject and each kind of candidate, the `limit` nearest others, best first.

    Args:
        scores: (n, n).

    Equal scores keep the order of the subjects, so that a ranking is the same in every run.
    """
    found = []
    kind_of = np.asarray(kinds)
    rounded = np.round(scores, DIGITS)
    for query in range(len(scores)):
        for kind in KINDS:
            candidates = np.flatnonzero(kind_of == kind)
            candidates = candidates[candidates != query]
            order = candidates[np.argsort(-rounded[query, candidates], kind="stable")]
            for rank, i in enumerate(order[:limit], start=1):
                found.append(Neighbor(query, int(i), rank, float(scores[query, i]), len(candidates)))
    return found
