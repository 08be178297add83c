"""Zero-label prompt selection: candidates vote on pseudo-labels, and who agrees with the vote is preferred.

Source: Liao, Zheng, Yang 2022, Zero-Label Prompt Selection, arXiv 2211.04668.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from fute.select.candidates import NO_ANSWER, Candidates, Doubles, Integers

Vote = Literal["log_probability", "probability", "majority"]

SMALLEST = 1e-12
"""Probabilities are raised to this before their logarithm, so that one certain candidate vetoes no label for ever."""


def pseudo_labels(candidates: Candidates, vote: Vote) -> Integers:
    """(n,) the label that the candidates choose together, by the mean of their log-probabilities, the mean of their
    probabilities, or their majority. NO_ANSWER where none answered. Ties go to the first label."""
    if vote == "log_probability":
        ballots = np.log(np.maximum(candidates.probabilities, SMALLEST))
    elif vote == "probability":
        ballots = candidates.probabilities
    else:
        ballots = (candidates.labels[:, :, None] == np.arange(len(candidates.label_names))).astype(np.float64)
    counted = (ballots * candidates.answered[:, :, None]).sum(axis=0)  # (n, c)
    return np.where(candidates.answered.any(axis=0), counted.argmax(axis=1), NO_ANSWER)


def agreement(candidates: Candidates, labels: Integers) -> Doubles:
    """(m,) share of rows on which each candidate answers the given label; no answer is no agreement."""
    return ((candidates.labels == labels) & (labels != NO_ANSWER)).mean(axis=1)


def zps(candidates: Candidates, vote: Vote = "log_probability", *, filtered: bool = False) -> Doubles:
    """(m,) pseudo-accuracy: agreement with the pseudo-labels.

    Args:
        filtered: let only the more confident of two clusters of candidates vote, as the paper does; every candidate
            is scored either way.
    """
    voters = candidates.some(confident(candidates)) if filtered else candidates
    return agreement(candidates, pseudo_labels(voters, vote))


def confident(candidates: Candidates) -> Integers:
    """The candidates that vote after filtering: the upper of two clusters by confidence, which is the probability of
    the first label less that of the second, summed over rows. At least half of the candidates stay, as in the
    authors' code."""
    ordered = np.sort(candidates.probabilities, axis=2)
    gaps = ((ordered[:, :, -1] - ordered[:, :, -2]) * candidates.answered).sum(axis=1)
    order = np.argsort(gaps, kind="stable")
    kept = order[_two_means(gaps[order]) :]
    half = len(gaps) // 2
    return np.sort(kept if len(kept) >= half else order[len(order) - half :])


def _two_means(ascending: Doubles) -> int:
    """Where the upper of the two best clusters of sorted numbers begins (k-means on a line, solved by trying all cuts);
    0 where all are equal."""
    if ascending[0] == ascending[-1]:
        return 0
    spreads = [
        ((ascending[:k] - ascending[:k].mean()) ** 2).sum() + ((ascending[k:] - ascending[k:].mean()) ** 2).sum()
        for k in range(1, len(ascending))
    ]
    return int(np.argmin(spreads)) + 1
