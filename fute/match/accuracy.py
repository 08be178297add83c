"""How often a model will be right on a target, from labelled texts and what it would answer on them.

Which of the model's classes stands for which label is read from the labelled texts: each class for the label that it
goes with most often (the classifier of LEEP, Nguyen et al. 2020, by counts), judged on texts left out. Where one label
is frequent, the share of texts that are right hides what a model finds of the others; the mean over labels shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fute.data.sampling import generator

FOLDS = 10
Z_90 = NormalDist().inv_cdf(0.95)

SPREAD, SPREAD_OF_LIFT = 0.03, 0.1
"""Standard deviation of accuracies about those of read-outs, beyond that of the texts counted: a constant, and a share
of what the model adds to chance times what it still misses."""
MISSED = 0.5
"""How far above its read-out a model may be that the read-out does not follow: times the square root of the same."""
LEAST_LIFT = 0.02
"""A model that a read-out does not follow may be better than it says, where it says nothing too. Set by hand."""
TURNED = 0.2
"""More of the texts right with the labels in another order, from which a model is said to be turned."""
SEEN_IN_PAIRS = 0.05
"""Lift above chance from which a read-out has seen what a model makes of pairs of texts. Set by hand."""
# The others were chosen on 29 tasks of benchmarks/match.py with seed 0; how often intervals hold: benchmarks/README.md.

Integers = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Accuracy:
    """Attributes:
    expected: share of texts that the model will answer rightly.
    low, high: within which it lies in 9 of 10 cases.
    chance: what giving all texts the same label gets, at best.
    """

    expected: float
    low: float
    high: float
    chance: float

    def surely_above_chance(self, tries: int) -> bool:
        """Whether it is: of so many that are not, any is wrongly called so in 1 of 20 cases at most (Bonferroni)."""
        wider = NormalDist().inv_cdf(1 - 0.05 / tries) / Z_90
        return self.expected - wider * (self.expected - self.low) > self.chance


@dataclass(frozen=True)
class Judged:
    """Attributes:
    meaning: (n_answers,) which label each of the model's classes stands for.
    accuracy: each class read as the label that it goes with most often.
    balanced: mean share of each label's texts that the model will answer rightly, each class read as the label in whose
        texts it is found most often. A detector of what is rare has one well above chance, though its accuracy may be
        no better than never finding anything.
    """

    meaning: Integers
    accuracy: Accuracy
    balanced: Accuracy


def better_than_chance(measures: Sequence[Accuracy], candidates: int) -> bool:
    """Whether a model, one of so many, surely is by any of its measures."""
    return any(m.surely_above_chance(len(measures) * candidates) for m in measures)


def unseen_in_pairs(judged: Judged) -> bool:
    """Whether finding nothing says nothing, the texts being pairs.

    What stands between two texts (that one follows from the other, or says the same) is hardly in a surrogate's
    features: the read-out of a prompt that knows a task of pairs well may be at chance there. Where it finds something,
    its intervals hold (benchmarks/match_kinds.py).
    """
    return all(m.expected < m.chance + SEEN_IN_PAIRS for m in (judged.accuracy, judged.balanced))


def judge(
    answers: Integers,
    labels: Integers,
    n_answers: int,
    n_labels: int,
    agreement: float,
    named: Integers | None = None,
) -> Judged:
    """What labelled texts, and what a read-out says that a model answers on them, say of the model.

    Where one label is so frequent that all classes go with it, the meaning is the one of the balanced accuracy.

    Args:
        answers, labels: (n,).
        agreement: of the read-out with the model (`ReadOut.agreement`).
        named: (n_answers,) the label that each class is called like, where the classes are called like the labels.
    """
    texts = np.bincount(labels, minlength=n_labels)
    found = []
    for values in (np.ones(n_labels), alike(texts)):
        if named is None:
            meaning, expected = matched(answers, labels, n_answers, n_labels, values)
        else:
            meaning, expected = by_name(answers, labels, named, values)
        weights = values[labels]
        chance = float((values * texts).max() / weights.sum())
        # Texts that count unevenly say as much as so many that count alike (Kish's effective sample size).
        effective = float(weights.sum() ** 2 / (weights**2).sum())
        found.append((meaning, interval(expected, chance, effective, agreement)))
    (meaning, accuracy), (other, balanced) = found
    return Judged(meaning if len(set(meaning[answers])) > 1 else other, accuracy, balanced)


def alike(texts: Integers) -> Values:
    """(n_labels,) how much a text of each label counts, so that all labels with texts count the same; 1 on average."""
    there = texts > 0
    return np.where(there, texts.sum() / (there.sum() * np.maximum(texts, 1)), 0.0)


def matched(
    answers: Integers, labels: Integers, n_answers: int, n_labels: int, values: Values | None = None
) -> tuple[Integers, float]:
    """Which label each of the model's classes stands for, and how often it is right on texts left out.

    A class that no text has stands for the most frequent label. No model is right less often than always giving the
    label that counts most: all its classes may stand for it.

    Args:
        answers, labels: (n,).
        values: (n_labels,) how much a text of each label counts; by default all the same.

    Returns:
        (n_answers,) labels, and the share of texts that are right when those of their tenth do not count.
    """
    values = np.ones(n_labels) if values is None else values
    counts = np.zeros((n_answers, n_labels))
    np.add.at(counts, (answers, labels), 1)
    order = generator(0, "folds of a match").permutation(len(labels))
    # Each tenth has its share of each label: else what is left out makes the other labels look more frequent.
    order = order[np.argsort(labels[order], kind="stable")]
    right = 0.0
    for fold in range(FOLDS):
        out = order[fold::FOLDS]
        rest = counts.copy()
        np.add.at(rest, (answers[out], labels[out]), -1)
        right += float(values[labels[out]] @ (stands_for(rest, values)[answers[out]] == labels[out]))
    always = float((values * counts.sum(axis=0)).max())
    return stands_for(counts, values), min(1.0, max(right, always) / float(values[labels].sum()))


def by_name(
    answers: Integers, labels: Integers, named: Integers, values: Values | None = None
) -> tuple[Integers, float]:
    """As `matched`, of a model whose classes are called like the labels: they are what they are called, unless another
    order is right in TURNED more of the texts."""
    from scipy.optimize import linear_sum_assignment  # whoever only looks at stored accuracies does not wait for it

    n_labels = len(named)
    counts = np.zeros((n_labels, n_labels))
    np.add.at(counts, (answers, labels), 1)
    counts *= np.ones(n_labels) if values is None else values
    said, true = linear_sum_assignment(-counts)
    as_named, turned = counts[np.arange(n_labels), named].sum(), counts[said, true].sum()
    meaning, right = (named, as_named) if turned - as_named <= TURNED * counts.sum() else (true, turned)
    return np.asarray(meaning, np.int64), float(min(1.0, right / counts.sum()))


def named_alike(classes: Sequence[str], labels: Sequence[str]) -> Integers | None:
    """(c,) the label that each class is called like, capitals aside; None where one of either has no counterpart."""
    places = {name.casefold(): i for i, name in enumerate(labels)}
    ours = [name.casefold() for name in classes]
    if set(ours) != places.keys() or not len(ours) == len(labels) == len(places):
        return None
    return np.array([places[name] for name in ours], np.int64)


def stands_for(counts: Values, values: Values | float = 1.0) -> Integers:
    """(c,) the label that each class goes with most, of equals the one that is more frequent in all."""
    shares = counts.sum(axis=0) / max(counts.sum(), 1.0)
    return (counts * values + 1e-3 * shares).argmax(axis=1)


def interval(expected: float, chance: float, texts: float, agreement: float) -> Accuracy:
    """What an accuracy by a read-out says of the model's own.

    Args:
        expected: by the read-out.
        chance: what giving all texts the same label gets, at best.
        texts: how many it was counted on.
        agreement: of the read-out with the model (`ReadOut.agreement`).
    """
    below, above = wilson(expected, texts)
    spread = Z_90 * (SPREAD + SPREAD_OF_LIFT * max(expected - chance, 0.0) * (1 - expected))
    missed = MISSED * (1 - agreement) * (max(expected - chance, LEAST_LIFT) * (1 - expected)) ** 0.5
    low = expected - ((expected - below) ** 2 + spread**2) ** 0.5
    high = expected + ((above - expected) ** 2 + spread**2) ** 0.5 + missed
    return Accuracy(expected, max(low, 0.0), min(high, 1.0), chance)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's interval, of 90 %, of a share of n."""
    z = Z_90**2 / n
    middle = (share + z / 2) / (1 + z)
    half = (share * (1 - share) * z + z**2 / 4) ** 0.5 / (1 + z)
    return middle - half, middle + half
