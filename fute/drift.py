"""Has a model changed? A fixed panel of inputs is asked again and compared with what it was answered at first.

Two things are measured, since each misses what the other sees:

- the distance of embeddings, 1 - cos(baseline, now), with cos as in crosscov: what the model answers *about* has moved;
- the change of answers, the mean over rows of half the sum of absolute differences (for probabilities: the share of
  probability that moved): the embedding does not notice that a model answers the opposite, or is less sure of it.

A model may answer the same question differently each time. So the baseline is asked several times, and how far apart
its own answers lie says what a check of an unchanged model looks like. A distance is an alarm if it is beyond that, and
beyond what would not matter: a share of the baseline's bootstrap spread, which is how far the embedding moves when the
panel is another draw of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fute.config import DriftConfig
from fute.errors import OutputsError
from fute.methods.crosscov.whitening import Doubles
from fute.types import Floats

SIMULATED = 200  # checks of an unchanged model that are made up, and bootstrap samples of the panel
MAX_COLUMNS = 32  # wider answers (embeddings of free text) are taken along their leading directions
MIN_ROWS = 16
NO_TASK = "the baseline's answers are the same for every row: there is no task to watch"
IN_A_STUDY = {"fields": "parameters", "embedding": "surrogate", "reading": "the reading of answers (fute's version)"}
"""Settings of a prompted model that a study calls otherwise."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """What the panel was answered at first, several times.

    Attributes:
        values: (k, n, c) float32, k askings of n rows.
        answered: (k, n) bool.
    """

    values: Floats
    answered: NDArray[np.bool_]

    @property
    def rows(self) -> NDArray[np.intp]:
        """Those that were answered each time."""
        return np.flatnonzero(self.answered.all(axis=0))

    def fault(self) -> str | None:
        """Why nothing can be compared with it; None: it can."""
        if len(self.rows) < MIN_ROWS:
            return (
                f"only {len(self.rows)} of the panel's {self.answered.shape[1]} rows were answered each time that the "
                f"baseline was asked (needed: {MIN_ROWS}); raise drift.panel_rows, or look at the refusals"
            )
        return NO_TASK if _same_for_all(self.values[:, self.rows].mean(axis=0)) else None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One check.

    Attributes:
        distance: 1 - cosine of the embeddings, baseline and now.
        distance_threshold: an alarm beyond this.
        noise: the distance to be expected of an unchanged model.
        spread: the distance to be expected of another draw of the panel (bootstrap).
        change: of the answers, 0 to 1 for probabilities.
        change_threshold: an alarm beyond this.
        rows: of the panel, answered then and now.
        answered: share of the panel that was answered now.
        reasons: what is beyond its threshold, in words; empty: no drift.
    """

    distance: float
    distance_threshold: float
    noise: float
    spread: float
    change: float
    change_threshold: float
    rows: int
    answered: float
    reasons: tuple[str, ...]

    @property
    def drifted(self) -> bool:
        return bool(self.reasons)

    @classmethod
    def impossible(cls, reason: str, rows: int, answered: float) -> Comparison:
        """Of what cannot be compared, which is an alarm."""
        return cls(
            distance=1.0, distance_threshold=0.0, noise=0.0, spread=0.0, change=1.0, change_threshold=0.0,
            rows=rows, answered=answered, reasons=(reason,),
        )  # fmt: skip

    def explained(self, why: str) -> Comparison:
        """With a further reason, where there is drift."""
        return replace(self, reasons=(*self.reasons, why)) if self.drifted else self


def changed_settings(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the settings whose fingerprints differ, as a study has them; "settings" where it was not noted which."""
    if not before:
        return ("settings",)
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return tuple(IN_A_STUDY.get(name, name) for name in names)


def panel_rows(source_ids: list[str], askable: list[int], n: int, seed: int) -> NDArray[np.intp]:
    """Which rows of a pool make the panel: a seeded draw, spread evenly over the sources, in the pool's order.

    Args:
        askable: rows that the model can be asked about.
    """
    order = np.random.default_rng(seed).permutation(askable)
    turn: dict[str, int] = {}
    turns = []
    for row in order:
        turns.append(turn.get(source_ids[row], 0))
        turn[source_ids[row]] = turns[-1] + 1
    return np.sort(order[np.argsort(turns, kind="stable")[:n]])


def compare(
    features: Doubles, baseline: Baseline, values: Floats, answered: NDArray[np.bool_], config: DriftConfig, seed: int
) -> Comparison:
    """Compare a new asking of the panel with the baseline.

    Args:
        features: (n, d) of the panel, as crosscov whitens and centres them.
        values: (n, c) answers now.
        answered: (n,) bool.

    Raises:
        OutputsError: the baseline itself has too few answers, or the same one for every row.
    """
    if (fault := baseline.fault()) is not None:
        raise OutputsError(fault)
    rows = baseline.rows
    share, before = float(answered.mean()), float(baseline.answered.mean())
    fell_silent = before - share > config.answered_tolerance
    both = rows[answered[rows]]
    if len(both) < MIN_ROWS:
        reason = f"it answered {share:.0%} of the panel, and {before:.0%} at first"
        return Comparison.impossible(reason, len(both), share)
    now, then = values.shape[1], baseline.values.shape[2]
    if now != then:
        return Comparison.impossible(f"its answers are {now} numbers each, and were {then}", len(both), share)
    measure = _Measure.of(features[both], baseline.values[:, both].astype(np.float64))
    distance, change = measure(values[both].astype(np.float64))
    noise = measure.unchanged_checks(np.random.default_rng(seed))
    spread = measure.spread(np.random.default_rng(seed + 1))
    distance_threshold = max(config.tolerance * spread, measure.beyond(noise[:, 0], config.sigmas))
    change_threshold = max(config.answers_tolerance, measure.beyond(noise[:, 1], config.sigmas))
    reasons = []
    if distance > distance_threshold:
        reasons.append(f"its embedding moved by {distance:.4f} (threshold {distance_threshold:.4f})")
    if change > change_threshold:
        reasons.append(f"its answers changed by {change:.1%} (threshold {change_threshold:.1%})")
    if fell_silent:
        reasons.append(f"it answered {share:.0%} of the panel, and {before:.0%} at first")
    return Comparison(
        distance=distance,
        distance_threshold=distance_threshold,
        noise=float(noise[:, 0].mean()),
        spread=spread,
        change=change,
        change_threshold=change_threshold,
        rows=len(both),
        answered=share,
        reasons=tuple(reasons),
    )


@dataclass(frozen=True, eq=False)
class _Measure:
    """Distance and change, from each asking of the baseline and averaged: one asking against one asking.

    Not from the baseline's mean: a noisy answer lies farther from a mean than a simulation around that mean would say,
    since the mean's own noise is no part of the new answer.

    Attributes:
        features: (n, d).
        askings: (k, n, c).
        directions: (c', c) that answers are taken along.
    """

    features: Doubles
    askings: Doubles
    directions: Doubles

    @classmethod
    def of(cls, features: Doubles, askings: Doubles) -> _Measure:
        mean = askings.mean(axis=0)
        if _same_for_all(mean):
            raise OutputsError(NO_TASK)
        directions = np.eye(mean.shape[1])
        if mean.shape[1] > MAX_COLUMNS:
            directions = np.linalg.svd(mean - mean.mean(axis=0), full_matrices=False)[2][:MAX_COLUMNS].T
        return cls(features, askings @ directions, directions)

    def __call__(self, answers: Doubles) -> tuple[float, float]:
        taken = answers @ self.directions
        measured = np.array([self._between(asking, taken) for asking in self.askings]).mean(axis=0)
        return float(measured[0]), float(measured[1])

    def _between(self, one: Doubles, other: Doubles) -> tuple[float, float]:
        distance = 1.0 - _cosine(_root_of(self.features, one), _root_of(self.features, other))
        return max(0.0, distance), float(0.5 * np.abs(one - other).sum(axis=1).mean())

    def unchanged_checks(self, rng: np.random.Generator) -> Doubles:
        """(SIMULATED, 2) distance and change of made-up pairs of askings of an unchanged model.

        For each row two of its own answers in random order: were the model unchanged, any order was as likely.
        """
        k, n, _ = self.askings.shape
        pairs = []
        for _ in range(SIMULATED if self._differences().any() else 1):
            drawn = rng.random((k, n)).argsort(axis=0)[:2]  # (2, n) different askings
            pairs.append(self._between(self.askings[drawn[0], np.arange(n)], self.askings[drawn[1], np.arange(n)]))
        return np.array(pairs)

    def beyond(self, noise: Doubles, sigmas: float) -> float:
        """The noise's mean and so many deviations.

        A noise that was seen in few rows is known only so well (m rows that differ tell its level to 1/sqrt(m)), and a
        check's own level varies as much: hence the 2.
        """
        squares = self._differences()
        if not squares.any():
            return 0.0
        relative = np.sqrt(2 * (squares**2).sum()) / squares.sum()
        return float(noise.mean() + sigmas * np.hypot(noise.std(), relative * noise.mean()))

    def spread(self, rng: np.random.Generator) -> float:
        """Median distance of the baseline on resampled rows to the baseline."""
        mean = self.askings.mean(axis=0)
        n, whole = len(mean), _root_of(self.features, mean)
        distances = []
        for _ in range(SIMULATED):
            rows = rng.integers(n, size=n)
            distances.append(1.0 - _cosine(whole, _root_of(self.features[rows], mean[rows])))
        return float(np.median(distances))

    def _differences(self) -> Doubles:
        """(n,) how much a row's answers differ: their variance."""
        variances: Doubles = self.askings.var(axis=0).sum(axis=1)
        return variances


def _same_for_all(answers: Floats | Doubles) -> bool:
    """Of (n, c)."""
    return bool(np.ptp(answers, axis=0).max() <= 1e-7)


def _root_of(features: Doubles, answers: Doubles) -> tuple[Doubles, Doubles]:
    """(A A')^1/2 = U diag(s) U' of the cross-covariance A, as U (d, r) and s (r,) of norm 1."""
    a = (features - features.mean(axis=0)).T @ (answers - answers.mean(axis=0)) / len(features)
    axes, strengths, _ = np.linalg.svd(a, full_matrices=False)
    return axes, strengths / max(float(np.linalg.norm(strengths)), 1e-300)


def _cosine(one: tuple[Doubles, Doubles], other: tuple[Doubles, Doubles]) -> float:
    return float(one[1] @ (one[0].T @ other[0]) ** 2 @ other[1])
