"""Which of a model's classes tell two labels apart, and how often rightly, from a few labelled texts of each.

One class stands for each label: those whose probabilities differ most, on average, between the texts of the two, the
model's other classes left out. They are chosen once more for each tenth of the texts without it, so that a model of
many classes does not look good for having many pairs of them.

A model that knows the two is right as often as its read-out is. Of others the read-out makes too much: they are right
as often as it is probable that the read-out is. What is expected is the mean of the two (benchmarks/by_class.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fute.data.sampling import generator
from fute.match.accuracy import FOLDS, TURNED, Accuracy, Integers, Values, interval

CHANCE = 0.5


@dataclass(frozen=True)
class ToldApart:
    """Attributes:
    classes: the model's class that stands for the first label, and the one for the second.
    accuracy: mean share of each label's texts on which the right one of the two is the more probable.
    """

    classes: tuple[int, int]
    accuracy: Accuracy


def tell_apart(
    probabilities: Values, labels: Integers, agreement: float, named: tuple[int, int] | None = None
) -> ToldApart:
    """What a read-out says of a model and two labels.

    Args:
        probabilities: (n, c) by the read-out, c > 1.
        labels: (n,) 0 or 1; texts of both.
        agreement: of the read-out with the model (`ReadOut.agreement`).
        named: the classes that are called like the labels. They are what they are called, unless two others are right
            in TURNED more of the texts.
    """
    right = np.zeros(len(labels))
    order = generator(0, "folds of two classes").permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # each tenth has its share of both
    for fold in range(FOLDS):
        out = order[fold::FOLDS]
        rest = np.setdiff1d(order, out)
        right[out] = expected_right(probabilities[out], labels[out], classes_of(probabilities[rest], labels[rest]))
    found, expected = classes_of(probabilities, labels), balanced(right, labels)
    if named is not None:
        by_name = balanced(expected_right(probabilities, labels, named), labels)
        if expected - by_name <= TURNED:
            found, expected = named, by_name
    counts = np.bincount(labels, minlength=2)
    # Texts that count unevenly say as much as so many that count alike (Kish's effective sample size).
    effective = float(4 / (1 / counts).sum())
    return ToldApart(found, interval(max(expected, CHANCE), CHANCE, effective, agreement))


def classes_of(probabilities: Values, labels: Integers) -> tuple[int, int]:
    """The class that is more probable in texts of the first label than of the second, by most, and the reverse."""
    apart = probabilities[labels == 0].mean(axis=0) - probabilities[labels == 1].mean(axis=0)
    return int(apart.argmax()), int(apart.argmin())


def expected_right(probabilities: Values, labels: Integers, classes: tuple[int, int]) -> Values:
    """(n,) how much each text is expected to be answered rightly, from a read-out."""
    of_two = probabilities[:, classes]
    probable = of_two[np.arange(len(labels)), labels] / np.maximum(of_two.sum(axis=1), 1e-12)
    return (rightly(probabilities, labels, classes) + probable) / 2


def rightly(probabilities: Values, labels: Integers, classes: tuple[int, int]) -> NDArray[np.bool_]:
    """(n,) whether of two classes the one of the text's label is the more probable."""
    first, second = classes
    return np.asarray((probabilities[:, first] > probabilities[:, second]) == (labels == 0))


def balanced(right: NDArray[np.generic], labels: Integers) -> float:
    """The share of right ones, both labels counting the same."""
    return float(np.mean([right[labels == label].mean() for label in (0, 1)]))
