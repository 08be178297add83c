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


def zps(candidates: Candidates, vote: Vote = "log_probability") -> Doubles:
    """(m,) pseudo-accuracy: agreement with the pseudo-labels."""
    return agreement(candidates, pseudo_labels(candidates, vote))
