"""Whether one model's classes answer what other classes of another one do, whose names are the same: without labels.

`positive` of one then goes with `negative` of the other on the texts that both answered. What is compared is how well
the best order of classes that is not the one of their names correlates, and how well the named one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fute.match.accuracy import named_alike
from fute.methods.crosscov.whitening import Doubles
from fute.types import Outputs

BEFORE = 0.05
"""Probability that a model's labels are turned, before its answers are looked at. Set by hand."""
SLOPE = 4.7
"""Log-odds of a gain of 1 in the sum of correlations. Fitted to pairs of small models whose classes are called alike,
of every second task, half of the pairs turned at random: benchmarks/by_class.py."""
SURE = 0.9
"""Probability from which models are said to be turned."""
NUMBERED = re.compile(r"(label|class)?[ _-]?\d+", re.IGNORECASE)
"""A name of a class that says nothing of it: 0, LABEL_1, class 2."""
FEWEST_ROWS, FEWEST_A_CLASS = 100, 10
"""That both answered; of fewer, correlations are chance. Set by hand."""


@dataclass(frozen=True)
class OtherOrder:
    """Attributes:
    stands_for: which of the other's classes each class goes with, by name, in the best order that is not the named one.
    probability: that they go with one another in that order, rather than in that of their names.
    """

    stands_for: dict[str, str]
    probability: float


def only_numbered(names: Sequence[str]) -> bool:
    """Whether classes are called so that models of any task may have the same: then they may answer each other's in
    some order for what their tasks have in common (0.23 of unrelated made-up models with two such classes, nearly all
    with ten), and are to be compared within one task alone."""
    return all(NUMBERED.fullmatch(name) for name in names)


def other_order(ours: Outputs, theirs: Outputs) -> OtherOrder | None:
    """Of two models' answers to the same rows; None where their classes are not called alike, or few rows are common.

    Only one other order is weighed, the best: where several classes are turned, that one says which.
    """
    if ours.label_names is None or theirs.label_names is None:
        return None
    places = named_alike(ours.label_names, theirs.label_names)
    rows = ours.answered_mask & theirs.answered_mask
    if places is None or rows.sum() < max(FEWEST_ROWS, FEWEST_A_CLASS * len(places)):
        return None
    order, gain = best_other(correlations(ours.values[rows], theirs.values[rows][:, places]))
    gain -= by_chance(len(order), int(rows.sum()))
    probability = float(1 / (1 + (1 - BEFORE) / BEFORE * np.exp(-SLOPE * gain)))
    names = [theirs.label_names[place] for place in places]
    return OtherOrder({name: names[order[i]] for i, name in enumerate(ours.label_names)}, probability)


def correlations(ours: np.ndarray, theirs: np.ndarray) -> Doubles:
    """(c, c) of the columns of two (n, c); 0 with one that is constant."""
    a, b = (_standardised(values.astype(np.float64)) for values in (ours, theirs))
    return a.T @ b / len(a)


def best_other(of: Doubles) -> tuple[list[int], float]:
    """Of (c, c), c > 1: the order other than the named one whose sum is largest, and by how much it is larger."""
    from scipy.optimize import linear_sum_assignment  # a second, which no look at a store is to wait for

    best: tuple[list[int], float] = [], -np.inf
    for place in range(len(of)):
        # Some class has another place than the named one: each in turn is kept out of its own.
        without = of.copy()
        without[place, place] = -2.0 * len(of)
        order = linear_sum_assignment(-without)[1]
        total = float(of[np.arange(len(of)), order].sum())
        if total > best[1]:
            best = order.tolist(), total
    return best[0], best[1] - float(np.trace(of))


def by_chance(classes: int, rows: int) -> float:
    """The gain of the best of all orders where answers have nothing to do with each other, at most: in each row of the
    correlations the largest of c normal ones of variance 1/n (E max <= sqrt(2 ln c))."""
    return float(classes * np.sqrt(2 * np.log(classes) / rows))


def _standardised(values: Doubles) -> Doubles:
    centred = values - values.mean(axis=0)
    scale = np.sqrt((centred**2).mean(axis=0))
    return centred / np.where(scale > 1e-9, scale, np.inf)
