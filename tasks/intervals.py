"""Confidence intervals of the best neighbours, where the method has them: nobody is asked again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fute.methods.crosscov.intervals import interval
from fute.methods.embedder import Resampled, Resampler
from fute.unify.frame import Chance, Frame, score
from fute.unify.neighbors import Neighbor
from storage.vectors import StoredEmbedding
from tasks import resources
from tasks.run import Run
from tasks.surrogate import SpaceRef

BEST = 3  # neighbours of each kind that get an interval: those that are shown first
RESAMPLES_KEPT_BYTES = 2**31  # in memory; those of later subjects are made again each time


@dataclass(frozen=True)
class Interval:
    """95 % intervals of a score, and of a first neighbour's lead over the second. Scales of chance are held fixed."""

    ci_low: float | None = None
    ci_high: float | None = None
    ahead: float | None = None
    ahead_low: float | None = None
    ahead_high: float | None = None


def neighbor_intervals(
    run: Run,
    space: SpaceRef,
    population: Sequence[StoredEmbedding],
    frame: Frame | None,
    chance: Chance | None,
    neighbors: Sequence[Neighbor],
) -> list[Interval]:
    """Intervals of the best neighbours; of the others, of other methods and without a frame there are none, nor with
    imported subjects, whose rows are not here."""
    if space.method.resamples == 0 or frame is None or chance is None:
        return [Interval()] * len(neighbors)
    embedder = resources.space(run, space.id, space.surrogate, space.method, space.pool)
    resampler = embedder.resampler(frame.mean, space.method.resamples, space.seed)
    of = _KeptResamples(lambda i: _resamples(run, resampler, population[i]))
    found: list[Interval] = []
    with resources.compute_lock:
        for place, n in enumerate(neighbors):
            if n.rank > BEST or population[n.query].imported or population[n.candidate].imported:
                found.append(Interval())
                continue
            scores = _resampled(n, of, population, chance)
            low, high = interval(n.score, scores)
            found.append(Interval(max(0.0, low), max(0.0, high)))
            second = neighbors[place + 1] if place + 1 < len(neighbors) else n
            if n.rank == 1 and second.rank == 2 and not population[second.candidate].imported:
                lead = n.score - second.score
                ahead = interval(lead, scores - _resampled(second, of, population, chance))
                found[-1] = replace(found[-1], ahead=lead, ahead_low=ahead[0], ahead_high=ahead[1])
    return found


def _resampled(
    n: Neighbor, of: Callable[[int], Resampled], population: Sequence[StoredEmbedding], chance: Chance
) -> NDArray[np.float64]:
    """(B,) scores of a pair, less a constant: their spread is wanted."""
    a, b = population[n.query].kind, population[n.candidate].kind
    scales = (
        (chance.of[b][0][n.query], chance.of[b][1][n.query]),
        (chance.of[a][0][n.candidate], chance.of[a][1][n.candidate]),
    )
    return score(of(n.query).cosines(of(n.candidate)), *scales)


class _KeptResamples:
    """Resamples by subject, kept up to a bound: a model of many classes has tens of megabytes."""

    def __init__(self, make: Callable[[int], Resampled]) -> None:
        self._make = make
        self._kept: dict[int, Resampled] = {}
        self._bytes_left = RESAMPLES_KEPT_BYTES

    def __call__(self, index: int) -> Resampled:
        if index in self._kept:
            return self._kept[index]
        made = self._make(index)
        if made.nbytes <= self._bytes_left:
            self._bytes_left -= made.nbytes
            self._kept[index] = made
        return made


def _resamples(run: Run, resampler: Resampler, embedding: StoredEmbedding) -> Resampled:
    store = run.open_store()
    if embedding.kind == "dataset":
        return resampler.dataset(store.dataset(embedding.ref))
    return resampler.model(store.outputs(embedding.row["pool"], embedding.ref))
