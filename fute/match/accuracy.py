"""How often a model will be right on a target, from labelled texts and what it would answer on them.

Which of the model's classes stands for which label is read from the labelled texts: each class for the label that it
goes with most often (the classifier of LEEP, Nguyen et al. 2020, by counts), judged on texts left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fute.data.sampling import generator

FOLDS = 10
Z_90 = NormalDist().inv_cdf(0.95)

SPREAD, SPREAD_OF_LIFT = 0.03, 0.1
"""Standard deviation of accuracies about those of read-outs, beyond that of the texts counted: a constant, and a share
of what the model adds to the most frequent label times what it still misses."""
MISSED = 0.5
"""How far above its read-out a model may be that the read-out does not follow: times the square root of the same."""
LEAST_LIFT = 0.02
"""A model that a read-out does not follow may be better than it says, where it says nothing too. Set by hand."""
# The others were chosen on 29 tasks of benchmarks/match.py with seed 0; how often intervals hold: benchmarks/README.md.

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Accuracy:
    """Attributes:
    expected: share of texts that the model will answer rightly.
    low, high: within which it lies in 9 of 10 cases.
    """

    expected: float
    low: float
    high: float

    def surely_above(self, share: float, candidates: int) -> bool:
        """Whether it is above a share, the best of so many models that are not being wrongly called so in 1 of 20
        cases at most (Bonferroni)."""
        wider = NormalDist().inv_cdf(1 - 0.05 / candidates) / Z_90
        return self.expected - wider * (self.expected - self.low) > share


def matched(answers: Integers, labels: Integers, n_answers: int, n_labels: int) -> tuple[Integers, float]:
    """Which label each of the model's classes stands for, and how often it is right on texts left out.

    A class that no text has stands for the most frequent label. No model is right less often than always giving that:
    all its classes may stand for it.

    Args:
        answers, labels: (n,).

    Returns:
        (n_answers,) labels, and the share of texts that are right when those of their tenth do not count.
    """
    counts = np.zeros((n_answers, n_labels))
    np.add.at(counts, (answers, labels), 1)
    order = generator(0, "folds of a match").permutation(len(labels))
    # Each tenth has its share of each label: else what is left out makes the other labels look more frequent.
    order = order[np.argsort(labels[order], kind="stable")]
    right = 0
    for fold in range(FOLDS):
        out = order[fold::FOLDS]
        rest = counts.copy()
        np.add.at(rest, (answers[out], labels[out]), -1)
        right += int((stands_for(rest)[answers[out]] == labels[out]).sum())
    return stands_for(counts), max(right, int(np.bincount(labels).max())) / len(labels)


def stands_for(counts: NDArray[np.float64]) -> Integers:
    """(c,) the label that each class goes with most often, of equally many the one that is more frequent in all."""
    shares = counts.sum(axis=0) / max(counts.sum(), 1.0)
    return (counts + 1e-3 * shares).argmax(axis=1)


def interval(expected: float, majority: float, texts: int, agreement: float) -> Accuracy:
    """What an accuracy by a read-out says of the model's own.

    Args:
        expected: by the read-out.
        majority: share of the most frequent label.
        texts: how many it was counted on.
        agreement: of the read-out with the model (`ReadOut.agreement`).
    """
    below, above = wilson(expected, texts)
    spread = Z_90 * (SPREAD + SPREAD_OF_LIFT * max(expected - majority, 0.0) * (1 - expected))
    missed = MISSED * (1 - agreement) * (max(expected - majority, LEAST_LIFT) * (1 - expected)) ** 0.5
    low = expected - ((expected - below) ** 2 + spread**2) ** 0.5
    high = expected + ((above - expected) ** 2 + spread**2) ** 0.5 + missed
    return Accuracy(expected, max(low, 0.0), min(high, 1.0))


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's interval, of 90 %, of a share of n."""
    z = Z_90**2 / n
    middle = (share + z / 2) / (1 + z)
    half = (share * (1 - share) * z + z**2 / 4) ** 0.5 / (1 + z)
    return middle - half, middle + half
