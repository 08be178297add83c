"""The measured side of source selection: scores of every source, target and seed, as a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fute.evaluate.transfer import same_class

NO_SOURCE = "none"
"""The name of the baseline: the plain backbone."""

Cell = tuple[str, str, int, float]
"""Source (or NO_SOURCE), target, number of the seed (0, 1, ...), score."""


@dataclass(frozen=True, eq=False)
class TransferScores:
    """Attributes:
    source_families, target_families: None where it is not known.
    scores: (sources, targets, seeds) held-out score, 0 to 1; NaN on the diagonal and where nothing was measured.
    baseline: (targets, seeds) from the plain backbone.
    """

    sources: Sequence[str]
    targets: Sequence[str]
    source_families: Sequence[str | None]
    target_families: Sequence[str | None]
    scores: NDArray[np.float64]
    baseline: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        sources: Sequence[str],
        targets: Sequence[str],
        families: dict[str, str | None],
        seeds: int,
        cells: Iterable[Cell],
    ) -> TransferScores:
        """The matrix of some cells; what is not among them is NaN."""
        scores = np.full((len(sources), len(targets), seeds), np.nan)
        baseline = np.full((len(targets), seeds), np.nan)
        for source, target, seed, score in cells:
            where = baseline if source == NO_SOURCE else scores[sources.index(source)]
            where[targets.index(target), seed] = score
        return cls(
            sources, targets, [families.get(i) for i in sources], [families.get(i) for i in targets], scores, baseline
        )

    @property
    def same_family(self) -> NDArray[np.bool_]:
        """(sources, targets), for the in-class test."""
        return same_class(self.source_families, self.target_families)

    @property
    def mean_scores(self) -> NDArray[np.float64]:
        """(sources, targets), the mean over the seeds that count for the target."""
        return _mean_where(self.scores, self.counted)

    @property
    def mean_baseline(self) -> NDArray[np.float64]:
        """(targets,), over the same seeds."""
        return _mean_where(self.baseline, self.counted)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(targets, seeds) seeds in which all starts of a target were measured that were measured at all.

        A seed draws its own rows: a source measured on other rows than its rivals would not compare with them.
        """
        ever = ~np.isnan(self.scores).all(axis=2, keepdims=True)  # not the diagonal, not a source that failed
        missing = np.isnan(self.scores) & ever
        return ~missing.any(axis=0) & ~np.isnan(self.baseline)


def _mean_where(values: NDArray[np.float64], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over the last axis, of what counts; NaN where nothing does."""
    total = np.where(counted, values, 0.0).sum(axis=-1)
    count = np.broadcast_to(counted, values.shape).sum(axis=-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
