"""Confidence intervals of the best neighbours in a crosscov space: nothing is trained and nobody is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov, targets_as_outputs
from fute.methods.crosscov.intervals import Draws, Resamples, interval, resample, resampled_cosines
from fute.methods.crosscov.symmetric import to_matrix
from fute.methods.crosscov.whitening import Doubles
from fute.unify.frame import Reference
from fute.unify.neighbors import Neighbor
from storage.vectors import StoredEmbedding
from tasks import resources
from tasks.run import Run
from tasks.surrogate import SpaceRef

BEST = 3  # neighbours of each kind that get an interval: those that are shown first
RESAMPLES_KEPT_BYTES = 2**31  # in memory; those of later subjects are made again each time
DRAWS_KEPT = 2  # of the pool's rows, which most models answer, and of what was drawn last

Interval = tuple[float | None, float | None]


def neighbor_intervals(
    run: Run,
    space: SpaceRef,
    population: Sequence[StoredEmbedding],
    reference: Reference,
    neighbors: Sequence[Neighbor],
) -> list[Interval]:
    """An interval for each of the best neighbours, (None, None) for the others and for other methods."""
    if not isinstance(space.method, CrosscovConfig) or space.method.bootstrap == 0:
        return [(None, None)] * len(neighbors)
    drawn = _KeptDraws(space.method.bootstrap, space.seed)
    embedder = cast(Crosscov, resources.space(run, space.id, space.surrogate, space.method, space.pool))
    means = {name: to_matrix(group.mean) for name, group in reference.groups.items()}
    of = _KeptResamples(lambda i: _resamples(run, embedder, population[i], reference, means, drawn))
    with resources.compute_lock:
        return [
            interval(n.score, resampled_cosines(of(n.query), of(n.candidate))) if n.rank <= BEST else (None, None)
            for n in neighbors
        ]


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
        if made.axes.nbytes <= self._bytes_left:
            self._bytes_left -= made.axes.nbytes
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


def _resamples(
    run: Run,
    embedder: Crosscov,
    embedding: StoredEmbedding,
    reference: Reference,
    means: Mapping[str, Doubles],
    drawn: _KeptDraws,
) -> Resamples:
    store = run.open_store()
    ref = f"{embedding.subject}@{embedding.row['subject_fingerprint']}"
    if embedding.kind == "dataset":
        dataset = store.dataset(ref)
        z, y = embedder.dataset_features(dataset), targets_as_outputs(dataset)
    else:
        z, y = embedder.model_rows(store.outputs(embedding.row["pool"], ref))
    found = reference.of(embedding.group)
    mixing, mean = (None, None) if found is None else (found[1].mixing, means[found[0]])
    return resample(drawn(z), y, mixing=mixing, mean=mean)
