"""How often models are right on texts without labels, from what they answer, and from a few labels where there are.

What models agree on is taken for the labels (fute.select.consensus), which makes each look better than it is where they
err together. So what is expected of a model lies between chance and that, and how far says their agreement: a share
that was measured, and that differs from task to task (the spread). Each label then moves all models together, and each
by itself, in the proportion in which what is not known of the two varies (a random effect each, best linear
prediction).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fute.data.sampling import generator
from fute.match.accuracy import TURNED, Z_90, Accuracy
from fute.select.consensus import consensus

LEAST_AGREEMENT = 0.15
"""Median size of Cohen's kappa over pairs of models, below which their agreement says nothing of who is right."""
FEWEST_MODELS = 3
LIFT, LIFT_UNAGREED = 0.75, 0.2
"""Of what the consensus finds above chance, how much is true of very many models; and where they do not agree."""
SPREAD_OF_LIFT = 0.4
"""Standard deviation of that share from task to task."""
SPREAD_UNAGREED = 0.2
"""Of an accuracy about its expectation, the same for all models, where they do not agree."""
SPREAD_OF_ONE, SPREAD_OF_ONE_UNAGREED = 0.08, 0.12
"""Of one model's accuracy about what is expected of it, beside what all share."""
ONE_TEXT = 0.2
"""Variance of whether a model is right on a text, about how probable that was."""
# Set by hand on 66 small models and the prompts of 11 targets: benchmarks/match_unlabelled.py.

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What is known of models that answer the same texts with the same labels.

    Attributes:
        accuracies: None where nothing can be vouched for.
        agreement: (m,) of each with the others: mean of Cohen's kappa, from 0, chance, to 1. NaN of one alone.
        turned: for each model which label stands for which where they go with another order of labels than their names
            say; else None.
    """

    accuracies: tuple[Accuracy, ...] | None
    agreement: Doubles
    turned: tuple[tuple[int, ...] | None, ...]


def judge(
    answers: Integers,
    n_labels: int,
    rows: Integers | None = None,
    labels: Integers | None = None,
    posterior: Doubles | None = None,
) -> Judgement:
    """Expected accuracies from answers, and from the labels of some of the texts.

    Args:
        answers: (m, n) label of each text by each model; -1 where it has none, which is wrong.
        rows, labels: (k,) texts with a label, and the labels; n_labels stands for one that no model answers, so that
            all are wrong there.
        posterior: (n, c) how probable each label is for each text, where more is known of it than by the models.
    """
    m, n = answers.shape
    given = (answers[:, :, None] == np.arange(n_labels)).astype(np.float64)
    kappas = _kappas(given)
    others = kappas[~np.eye(m, dtype=bool)]
    agreement = others.reshape(m, m - 1).mean(axis=1) if m > 1 else np.full(m, np.nan)
    # A model with its labels turned knows as much; and what chance makes of so few texts is not counted.
    known = np.sqrt(np.maximum(others**2 - 1 / n, 0))
    agreed = m >= FEWEST_MODELS and float(np.median(known)) >= LEAST_AGREEMENT
    if posterior is None:
        posterior = consensus(answers, n_labels).posterior
    k = 0 if rows is None else len(rows)
    if not agreed and k == 0:
        return Judgement(None, agreement, (None,) * m)
    tempered = _tempered(posterior, agreed, m)
    probable = (given * tempered).sum(axis=2)  # (m, n) that it is right
    expected = probable.mean(axis=1)
    few = ((1 + 10 / m) / (1 + 10 / 13)) ** 0.5  # the spreads are of 13 models; fewer err together more often
    found = (given * posterior).sum(axis=2).mean(axis=1)  # by the consensus
    chance = given.mean(axis=1) @ posterior.mean(axis=0)
    shared = few * (SPREAD_OF_LIFT * np.abs(found - chance) if agreed else np.full(m, SPREAD_UNAGREED))
    own = few * (SPREAD_OF_ONE if agreed else SPREAD_OF_ONE_UNAGREED)
    if rows is not None and labels is not None and k:
        missed = (answers[:, rows] == labels) - probable[:, rows]
        together = float(missed.mean())
        of_all = shared.mean() ** 2 / (shared.mean() ** 2 + ONE_TEXT / k)
        of_one = own**2 / (own**2 + ONE_TEXT / k)
        expected = expected + of_all * together + of_one * (missed.mean(axis=1) - together)
        shared, own = shared * (1 - of_all) ** 0.5, own * (1 - of_one) ** 0.5
        posterior = posterior.copy()
        ours = labels < n_labels
        posterior[rows[ours]] = np.eye(n_labels)[labels[ours]]
    expected = np.clip(expected, 0, 1)
    by_itself = Z_90 * (own**2 + expected * (1 - expected) / n) ** 0.5
    half = ((Z_90 * shared) ** 2 + by_itself**2) ** 0.5
    low, high = expected - half, expected + half
    if k == 0:  # all of them together are not worse than chance, nor better than the consensus
        low = np.maximum(low, np.minimum(chance, found) - by_itself)
        high = np.minimum(high, np.maximum(chance, found) + by_itself)
    frequent = float(posterior.mean(axis=0).max())
    low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
    accuracies = tuple(map(Accuracy, expected.tolist(), low.tolist(), high.tolist(), [frequent] * m))
    turned = tuple(_turned(g, posterior) for g in given) if agreed else (None,) * m
    return Judgement(accuracies, agreement, turned)


def worth_labelling(answers: Integers, n_labels: int, k: int, seed: int = 0) -> Integers:
    """k of the n texts: half of them drawn evenly, half where those that are likely to be best disagree.

    Even ones keep all models together honest; those with disagreement alone say little of how often a model is right.
    """
    n = answers.shape[1]
    given = (answers[:, :, None] == np.arange(n_labels)).astype(np.float64)
    posterior = consensus(answers, n_labels).posterior
    merits = (given * posterior).sum(axis=2).mean(axis=1)
    likely = np.exp(10 * (merits - merits.max()))
    votes = np.einsum("m,mnc->nc", likely / likely.sum(), given)
    apart = np.clip(1 - (votes**2).sum(axis=1), 0, None) + 1e-6
    p = 0.5 / n + 0.5 * apart / apart.sum()
    return np.sort(generator(seed, "worth labelling").choice(n, min(k, n), replace=False, p=p / p.sum()))


def _tempered(posterior: Doubles, agreed: bool, m: int) -> Doubles:
    """(n, c) less sure of itself, towards the labels' shares."""
    lift = (LIFT if agreed else LIFT_UNAGREED) * (m - 1) / (m + 1)
    return lift * posterior + (1 - lift) * posterior.mean(axis=0)


def _kappas(given: Doubles) -> Doubles:
    """(m, m) Cohen's kappa of each pair."""
    shares = given.mean(axis=1)
    chance = shares @ shares.T
    same = np.einsum("anc,bnc->ab", given, given) / given.shape[1]
    kappas: Doubles = (same - chance) / np.maximum(1 - chance, 1e-9)
    return kappas


def _turned(given: Doubles, posterior: Doubles) -> tuple[int, ...] | None:
    """Which label each of one model's answers stands for, where another order than it says fits clearly better."""
    together = given.T @ posterior / len(posterior)  # (said, true)
    said, true = linear_sum_assignment(-together)
    gain = together[said, true].sum() - np.trace(together)
    return tuple(true.tolist()) if gain > TURNED else None
