"""Confidence intervals of the best neighbours in a crosscov space: nothing is trained and nobody is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov, targets_as_outputs
from fute.methods.crosscov.intervals import Draws, Resamples, interval, resample, resampled_cosines
from fute.methods.crosscov.root import to_matrix
from fute.methods.crosscov.whitening import Doubles
from fute.unify.frame import Chance, Frame, score
from fute.unify.neighbors import Neighbor
from storage.vectors import StoredEmbedding
from tasks import resources
from tasks.run import Run
from tasks.surrogate import SpaceRef

BEST = 3  # neighbours of each kind that get an interval: those that are shown first
RESAMPLES_KEPT_BYTES = 2**31  # in memory; those of later subjects are made again each time
DRAWS_KEPT = 2  # of the pool's rows, which most models answer, and of what was drawn last


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
    """Intervals of the best neighbours; of the others, of other methods and without a frame there are none."""
    if not isinstance(space.method, CrosscovConfig) or space.method.bootstrap == 0 or frame is None or chance is None:
        return [Interval()] * len(neighbors)
    drawn = _KeptDraws(space.method.bootstrap, space.seed)
    embedder = cast(Crosscov, resources.space(run, space.id, space.surrogate, space.method, space.pool))
    mean = to_matrix(frame.mean)
    of = _KeptResamples(lambda i: _resamples(run, embedder, population[i], mean, drawn))
    found: list[Interval] = []
    with resources.compute_lock:
        for place, n in enumerate(neighbors):
            if n.rank > BEST:
                found.append(Interval())
                continue
            scores = _resampled(n, of, population, chance, mean)
            low, high = interval(n.score, scores)
            found.append(Interval(max(0.0, low), max(0.0, high)))
            second = neighbors[place + 1] if place + 1 < len(neighbors) else n
            if n.rank == 1 and second.rank == 2:
                lead = n.score - second.score
                ahead = interval(lead, scores - _resampled(second, of, population, chance, mean))
                found[-1] = replace(found[-1], ahead=lead, ahead_low=ahead[0], ahead_high=ahead[1])
    return found


def _resampled(
    n: Neighbor,
    of: Callable[[int], Resamples],
    population: Sequence[StoredEmbedding],
    chance: Chance,
    mean: Doubles,
) -> Doubles:
    """(B,) scores of a pair, less a constant: their spread is wanted."""
    a, b = population[n.query].kind, population[n.candidate].kind
    scales = ((chance.of[b][0][n.query], chance.of[b][1][n.query]),
              (chance.of[a][0][n.candidate], chance.of[a][1][n.candidate]))  # fmt: skip
    return score(resampled_cosines(of(n.query), of(n.candidate), mean), *scales)


class _KeptResamples:
    """Resamples by subject, kept up to a bound: a model of many classes has tens of megabytes."""

    def __init__(self, make: Callable[[int], Resamples]) -> None:
        self._make = make
        self._kept: dict[int, Resamples] = {}
        self._bytes_left = RESAMPLES_KEPT_BYTES

    def __call__(self, index: int) -> Resamples:
        if index in self._kept:
            return self._kept[index]
        made = self._make(index)
        if made.root.axes.nbytes <= self._bytes_left:
            self._bytes_left -= made.root.axes.nbytes
            self._kept[index] = made
        return made


class _KeptDraws:
    """Draws of the rows of features, the latest kept: models that answered the same rows share them."""

    def __init__(self, times: int, seed: int) -> None:
        self._times = times
        self._seed = seed
        self._kept: list[tuple[Doubles, Draws]] = []

    def __call__(self, z: Doubles) -> Draws:
        found = next((draws for rows, draws in self._kept if rows is z), None)
        if found is None:
            found = Draws.of(z, times=self._times, seed=self._seed)
        others = [(rows, draws) for rows, draws in self._kept if rows is not z]
        self._kept = [*others, (z, found)][-DRAWS_KEPT:]
        return found


def _resamples(run: Run, embedder: Crosscov, embedding: StoredEmbedding, mean: Doubles, drawn: _KeptDraws) -> Resamples:
    store = run.open_store()
    ref = f"{embedding.subject}@{embedding.row['subject_fingerprint']}"
    if embedding.kind == "dataset":
        dataset = store.dataset(ref)
        z, y = embedder.dataset_features(dataset), targets_as_outputs(dataset)
    else:
        z, y = embedder.model_rows(store.outputs(embedding.row["pool"], ref))
    return resample(drawn(z), y, mean)
