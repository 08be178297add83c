"""Ranked nearest neighbours: dataset to model, model to dataset, model to model, dataset to dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fute.types import Floats, Kind
from fute.unify.frame import KINDS, Chance

BLOCK = 2048  # subjects at once: memory grows with their number times n
SCORE_DIGITS, COSINE_DIGITS = 4, 6  # what differs beyond is how a machine adds up, and decides no rank


@dataclass(frozen=True)
class Neighbor:
    """Attributes:
    score: see fute.unify.frame; the cosine where the space has no frame.
    cosine: in the frame.
    candidates: how many it is the best of.
    """

    query: int
    candidate: int
    rank: int
    score: float
    cosine: float
    candidates: int


def nearest_neighbors(placed: Floats, kinds: Sequence[Kind], chance: Chance | None, limit: int) -> list[Neighbor]:
    """For each subject and each kind of candidate, the `limit` nearest others, best first.

    Args:
        placed: (n, dim) unit vectors, or zeros.
        chance: None: the space has no frame, and cosines rank.

    Equal scores keep the order of the subjects, so that a ranking is the same in every run.
    """
    found = []
    digits = COSINE_DIGITS if chance is None else SCORE_DIGITS
    for first in range(0, len(placed), BLOCK):
        cosines = np.clip(placed[first : first + BLOCK] @ placed.T, -1.0, 1.0)
        scores = cosines if chance is None else chance.scores(cosines, kinds, first)
        found += ranked(scores, cosines, kinds, limit, first, digits)
    return found


def ranked(
    scores: NDArray[np.floating],
    cosines: NDArray[np.floating],
    kinds: Sequence[Kind],
    limit: int,
    first: int = 0,
    digits: int = SCORE_DIGITS,
) -> list[Neighbor]:
    """The nearest others of some subjects, by (m, n) scores; the row of the first of the m is `first`."""
    found = []
    of_kind = {kind: np.flatnonzero(np.asarray(kinds) == kind) for kind in KINDS}
    rounded = np.round(scores, digits)
    for row, query in enumerate(range(first, first + len(scores))):
        for kind in KINDS:
            candidates = of_kind[kind][of_kind[kind] != query]
            order = candidates[np.argsort(-rounded[row, candidates], kind="stable")]
            for rank, i in enumerate(order[:limit], start=1):
                values = float(scores[row, i]), float(cosines[row, i])
                found.append(Neighbor(query, int(i), rank, *values, len(candidates)))
    return found
