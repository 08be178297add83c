"""A few rows of the panel, asked often: do the answers, with their log-probabilities, look like the earlier ones?

The rows are those on which the model hesitates (arXiv 2602.11083): whose answers varied, or whose best two labels lie
closest, in the first half of the baseline's askings. What is compared with is the other half, which had no part in the
choice: of an unchanged model, which of a row's askings is the one of now is then a uniform draw, row by row. So the
permutation test is exact, whatever the noise is. It tests the mean log-probabilities of labels (arXiv 2512.03816:
they show one step of fine-tuning), or labels alone where an endpoint gives no others.

A test at WIRE_ALPHA each time: this is no verdict, but the occasion to read the panel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fute.drift import Answers, Baseline
from fute.types import Floats

WIRE_ROWS = 20  # calls of a check, at most
SURE_ROWS = 10  # calls where answers come with probabilities, each of which says more than a label
WIRE_ALPHA = 0.001
PERMUTED = 9_999
IDENTITY_ALPHA = 0.01
TRIED = 100  # made-up other models, of each size of difference
LOWEST = 1e-4  # probability: below it, log-probabilities of labels are noise of the vocabulary's tail


def wire_size(baseline: Baseline) -> int:
    hard = all(map(_is_hard, baseline.askings))
    return min(WIRE_ROWS if hard else SURE_ROWS, baseline.values.shape[1])


def wire_rows(baseline: Baseline, n: int) -> NDArray[np.intp]:
    """Rows of the panel on which the model hesitates most, in the panel's order."""
    first = baseline.values[: _choosing(baseline)].sum(axis=0)  # (n, c)
    best = np.sort(first, axis=1)
    margin = best[:, -1] - (best[:, -2] if best.shape[1] > 1 else 0)
    answered = np.all(baseline.answered, axis=0, keepdims=True)[0]
    # Equal margins, as of labels without probabilities: drawn, for the first rows may all be of one source.
    order = np.random.default_rng(0).permutation(len(margin))
    order = order[np.lexsort((margin[order], ~answered[order]))]
    return np.sort(order[:n])


def wire_askings(baseline: Baseline, rows: NDArray[np.intp]) -> list[Answers]:
    """What the rows were answered at first, without the askings by which they were chosen."""
    return [asking.take(rows) for asking in baseline.askings[_choosing(baseline) :]]


def wire_p_value(before: Sequence[Answers], now: Answers, *, labels: bool, seed: int) -> float:
    """That an unchanged model would answer at least as unlike the earlier askings as it does now."""
    pooled = np.stack([_scored(answers, labels=labels) for answers in [*before, now]]).astype(float)  # (m + 1, n, c)
    others = (pooled.sum(axis=0) - pooled) / len(before)
    apart = np.linalg.norm(pooled - others, axis=2)  # (m + 1, n)
    drawn = np.random.default_rng(seed).integers(len(pooled), size=(PERMUTED, pooled.shape[1]))
    sums = apart[drawn, np.arange(pooled.shape[1])].sum(axis=1)
    # With a grain: sums of the same numbers in another order differ in their last bits.
    return float((1 + np.count_nonzero(sums >= apart[-1].sum() - 1e-9)) / (1 + PERMUTED))


@dataclass(frozen=True)
class Identity:
    """Whether an endpoint is the model that was enrolled, by one asking of the wire's rows.

    Attributes:
        verdict: "another" is wrong of the same model with a probability of at most IDENTITY_ALPHA; "same" is wrong of a
            model that answers more than `detectable` of these rows otherwise with at most 5 %.
        detectable: share of the rows; above 1: no difference would be told.
    """

    verdict: Literal["same", "another", "unknown"]
    p_value: float
    detectable: float
    rows: int

    @property
    def sentence(self) -> str:
        if self.verdict == "another":
            return f"another model: the one that was enrolled would answer so unlike itself with p {self.p_value:.1g}"
        if self.verdict == "same":
            return (
                f"the same, as far as {self.rows} texts can tell: a model that answers more than {self.detectable:.0%} "
                "of them otherwise would have been told (95 %)"
            )
        if self.detectable > MOST_UNSEEN:
            return f"cannot tell: the enrolled model's own answers to these {self.rows} texts vary too much"
        return f"cannot tell: its answers are unlike the enrolled ones, but not beyond doubt (p {self.p_value:.2g})"


MOST_UNSEEN = 0.5  # share of rows that may be answered otherwise by what is called the same
IN_DOUBT = 0.1  # p-value


def identify(before: Sequence[Answers], now: Answers, *, labels: bool, seed: int) -> Identity:
    """One shot, at IDENTITY_ALPHA."""
    askings = [*before, now]
    if labels and len({_is_hard(asking) for asking in askings}) > 1:  # one of the two gives no log-probabilities
        askings = [_hardened(asking) for asking in askings]
    *before, now = askings
    p = wire_p_value(before, now, labels=labels, seed=seed)
    rows, rng = len(now.answered), np.random.default_rng(seed)

    def told(differing: int) -> float:
        """Share of made-up models that are told: an asking of the enrolled one, in part answered otherwise."""
        found = 0
        for number in range(TRIED):
            own = before[number % len(before)]
            at = rng.permutation(rows)[:differing]
            values, answered = own.values.copy(), own.answered.copy()
            values[at] = np.roll(values, 1, axis=1)[at] if labels else np.roll(values, 1, axis=0)[at]
            found += wire_p_value(before, Answers(values, answered), labels=labels, seed=number) <= IDENTITY_ALPHA
        return found / TRIED

    enough = 1 + bisect_left(range(1, rows + 1), True, key=lambda differing: told(differing) >= 0.95)
    detectable = enough / rows if enough <= rows else np.inf
    verdict: Literal["same", "another", "unknown"] = "another" if p <= IDENTITY_ALPHA else "same"
    if verdict == "same" and (p <= IN_DOUBT or detectable > MOST_UNSEEN):
        verdict = "unknown"
    return Identity(verdict, p, float(detectable), rows)


def _is_hard(answers: Answers) -> bool:
    """Labels without probabilities."""
    return bool(np.isin(answers.values, (0, 1)).all())


def _hardened(answers: Answers) -> Answers:
    return Answers(np.eye(answers.values.shape[1], dtype=np.float32)[answers.values.argmax(axis=1)], answers.answered)


def _scored(answers: Answers, *, labels: bool) -> Floats:
    scored = np.log(np.maximum(answers.values, LOWEST)) if labels else answers.values
    return np.asarray(np.where(answers.answered[:, None], scored, 0.0), dtype=np.float32)


def _choosing(baseline: Baseline) -> int:
    """By how many askings rows are chosen: of fewer than four none can be spared, and rows are drawn."""
    return len(baseline.values) // 2 if len(baseline.values) >= 4 else 0
