"""Has a model changed? A fixed panel of inputs is asked again and compared with what it was answered at first.

Two things are measured, since each misses what the other sees:

- the distance of embeddings, 1 - cos(baseline, now), with cos as in crosscov: what the model answers *about* has moved;
- the change of answers, the mean over rows of half the sum of absolute differences (for probabilities: the share of
  probability that moved): the embedding does not notice that a model answers the opposite, or is less sure of it.

A model may answer the same question differently each time. So the baseline is asked several times, and how far apart
its own answers lie says what a check of an unchanged model looks like. A distance is an alarm if it is beyond that, and
beyond what would not matter: a share of the baseline's bootstrap spread, which is how far the embedding moves when the
panel is another draw of rows.

Few askings of few rows show only so much: an endpoint that answers one row in 200 the other way round may well have
shown none of it. So neither measure is an alarm before more rows have changed than such an endpoint changes; how many
these are is counted in rows, which makes a small panel less sharp: with two askings that agree, more than 7 rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import chi2

from fute.config import DriftConfig
from fute.errors import OutputsError
from fute.methods.crosscov.root import Root, cross_covariance
from fute.methods.crosscov.whitening import Doubles
from fute.types import Floats

SIMULATED = 200  # checks of an unchanged model that are made up, and bootstrap samples of the panel
MAX_OTHERS = 512  # rows among which another answer is looked for
MAX_COLUMNS = 32  # wider answers (embeddings of free text) are taken along their leading directions
MIN_ROWS = 16  # of a baseline
MIN_SHARED_ROWS = 8  # of a check: fewer, since an endpoint that refuses now and then answers other rows each time
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

    def silence_threshold(self, config: DriftConfig) -> float:
        """By how much the share of answered rows may fall, as far as that varies between askings.

        The deviation of a difference of two shares: the baseline's, of all its askings, and the check's. Two rows of
        each kind are added (Agresti and Coull), for a baseline without refusals does not mean that there are none.
        """
        k, n = self.answered.shape
        silent = (k * n - self.answered.sum() + 2) / (k * n + 4)
        return max(config.answered_tolerance, config.sigmas * float(np.sqrt(silent * (1 - silent) * (1 + 1 / k) / n)))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one check.

    Attributes:
        distance_threshold, change_threshold: an alarm beyond these.
        noise: the distance to be expected of an unchanged model.
        spread: the distance to be expected of another draw of the panel (bootstrap).
    """

    distance_threshold: float
    change_threshold: float
    noise: float
    spread: float


@dataclass(frozen=True, kw_only=True)
class Comparison(Limits):
    """One check.

    Attributes:
        distance: 1 - cosine of the embeddings, baseline and now.
        change: of the answers, 0 to 1 for probabilities.
        rows: of the panel, answered then and now.
        answered: share of the panel that was answered now.
        reasons: what is beyond its threshold, in words; empty: no drift.
    """

    distance: float
    change: float
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
            distance=1.0,
            distance_threshold=0.0,
            noise=0.0,
            spread=0.0,
            change=1.0,
            change_threshold=0.0,
            rows=rows,
            answered=answered,
            reasons=(reason,),
        )

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
        OutputsError: nothing can be compared with the baseline: its `fault`.
    """
    if (fault := baseline.fault()) is not None:
        raise OutputsError(fault)
    rows = baseline.rows
    share, before = float(answered.mean()), float(baseline.answered.mean())
    fell_silent = f"it answered {share:.0%} of the panel, and {before:.0%} at first"
    both = rows[answered[rows]]
    if len(both) < MIN_SHARED_ROWS:
        return Comparison.impossible(fell_silent, len(both), share)
    if _same_for_all(baseline.values[:, both].mean(axis=0)):
        reason = f"{fell_silent}: those rows had one answer at first, so nothing can be compared"
        return Comparison.impossible(reason, len(both), share)
    now, then = values.shape[1], baseline.values.shape[2]
    if now != then:
        return Comparison.impossible(f"its answers are {now} numbers each, and were {then}", len(both), share)
    measure = Measure.of(features[both], baseline.values[:, both].astype(np.float64))
    distance, change = measure(values[both].astype(np.float64))
    limits = measure.limits(config, seed)
    reasons = []
    if distance > limits.distance_threshold:
        reasons.append(f"its embedding moved by {distance:.4f} (threshold {limits.distance_threshold:.4f})")
    if change > limits.change_threshold:
        reasons.append(f"its answers changed by {change:.1%} (threshold {limits.change_threshold:.1%})")
    if before - share > baseline.silence_threshold(config):
        reasons.append(fell_silent)
    told = tuple(reasons)
    return Comparison(distance=distance, change=change, rows=len(both), answered=share, reasons=told, **vars(limits))


@dataclass(frozen=True, eq=False)
class Measure:
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
    def of(cls, features: Doubles, askings: Doubles) -> Measure:
        mean = askings.mean(axis=0)
        directions = np.eye(mean.shape[1])
        if mean.shape[1] > MAX_COLUMNS:
            directions = np.linalg.svd(mean - mean.mean(axis=0), full_matrices=False)[2][:MAX_COLUMNS].T
        return cls(features, askings @ directions, directions)

    def __call__(self, answers: Doubles) -> tuple[float, float]:
        return self._from_baseline(answers @ self.directions)

    def _from_baseline(self, taken: Doubles) -> tuple[float, float]:
        """Of answers (n, c') along the directions."""
        root = _root_of(self.features, taken)
        distances = [_distance(asked, root) for asked in self._roots]
        return float(np.mean(distances)), _change(self.askings, taken)

    @cached_property
    def _roots(self) -> list[Root]:
        return [_root_of(self.features, asking) for asking in self.askings]

    def limits(self, config: DriftConfig, seed: int) -> Limits:
        """What is an alarm: beyond what would not matter, what the baseline has shown, and what it may not have."""
        noise = self._unchanged_checks(np.random.default_rng(seed))
        spread = self._spread(np.random.default_rng(seed + 1))
        distance, change = self._rows_changed_unseen(np.random.default_rng(seed + 2), config.sigmas)
        return Limits(
            distance_threshold=max(config.tolerance * spread, self._beyond(noise[:, 0], config.sigmas), distance),
            change_threshold=max(config.answers_tolerance, self._beyond(noise[:, 1], config.sigmas), change),
            noise=float(noise[:, 0].mean()),
            spread=spread,
        )

    def _between(self, one: Doubles, other: Doubles) -> tuple[float, float]:
        distance = _distance(_root_of(self.features, one), _root_of(self.features, other))
        return distance, _change(one, other)

    def _unchanged_checks(self, rng: np.random.Generator) -> Doubles:
        """(SIMULATED, 2) distance and change of made-up pairs of askings of an unchanged model.

        For each row two of its own answers in random order: were the model unchanged, any order was as likely.
        """
        k, n, _ = self.askings.shape
        pairs = []
        for _ in range(SIMULATED if self._differences().any() else 1):
            drawn = rng.random((k, n)).argsort(axis=0)[:2]  # (2, n) different askings
            pairs.append(self._between(self.askings[drawn[0], np.arange(n)], self.askings[drawn[1], np.arange(n)]))
        return np.array(pairs)

    def _beyond(self, noise: Doubles, sigmas: float) -> float:
        """The noise's mean and so many deviations.

        A noise that was seen in few rows is known only so well (m rows that differ tell its level to 1/sqrt(m)), and a
        check's own level varies as much: hence the 2.
        """
        squares = self._differences()
        if not squares.any():
            return 0.0
        relative = np.sqrt(2 * (squares**2).sum()) / squares.sum()
        return float(noise.mean() + sigmas * np.hypot(noise.std(), relative * noise.mean()))

    def _spread(self, rng: np.random.Generator) -> float:
        """Median distance of the baseline on resampled rows to the baseline."""
        mean = self.askings.mean(axis=0)
        n, whole = len(mean), _root_of(self.features, mean)
        distances = []
        for _ in range(SIMULATED):
            rows = rng.integers(n, size=n)
            distances.append(_distance(whole, _root_of(self.features[rows], mean[rows])))
        return float(np.median(distances))

    def _rows_changed_unseen(self, rng: np.random.Generator, sigmas: float) -> tuple[float, float]:
        """Distance and change (medians) of made-up checks in which some rows are answered quite otherwise.

        As many rows as an unchanged model may well change: m that the baseline's k askings do not agree on bound the
        number to be expected of one asking (Poisson, 95 %), and a check lies so many deviations above it. Which rows
        they are is drawn, for one moves the embedding far more than another.
        """
        k, n, _ = self.askings.shape
        mean = self.askings.mean(axis=0)
        others = mean[rng.permutation(n)[:MAX_OTHERS]]
        apart = cdist(mean, others, "cityblock")
        otherwise = others[apart.argmax(axis=1)]
        # Two answers that lie most of the way apart are others; less is the same one, a little moved.
        unsure = np.abs(self.askings - mean).sum(axis=2).max(axis=0) > 0.75 * apart.max(axis=1) / 2
        expected = chi2.ppf(0.95, 2 * (np.count_nonzero(unsure) + 1)) / 2 / k
        # Of a change of more than half the embedding sees less and less.
        changed = min(n // 2, int(expected + sigmas * np.sqrt(expected)))
        measured = []
        for _ in range(SIMULATED):
            check = self.askings[rng.integers(k, size=n), np.arange(n)]
            rows = rng.permutation(n)[:changed]
            check[rows] = otherwise[rows]
            measured.append(self._from_baseline(check))
        distance, change = np.median(measured, axis=0)
        return float(distance), float(change)

    def _differences(self) -> Doubles:
        """(n,) how much a row's answers differ: their variance."""
        variances: Doubles = self.askings.var(axis=0).sum(axis=1)
        return variances


def _same_for_all(answers: Floats | Doubles) -> bool:
    """Of (n, c)."""
    return bool(np.ptp(answers, axis=0).max() <= 1e-7)


def _change(one: Doubles, other: Doubles) -> float:
    """Of answers (..., n, c): the mean over rows and whatever comes before them."""
    return float(0.5 * np.abs(one - other).sum(axis=-1).mean())


def _root_of(features: Doubles, answers: Doubles) -> Root:
    return Root.of(cross_covariance(features, answers))


def _distance(one: Root, other: Root) -> float:
    return max(0.0, 1.0 - float(one.cosine(other)))
