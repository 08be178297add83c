"""Zero-Label Prompt Selection as the paper filters it: only the more confident of two clusters of prompts votes.

Source: Liao, Zheng, Yang 2022, Zero-Label Prompt Selection, arXiv 2211.04668. It helped in few cases and hurt in most
(docs/fidelity.md), so that fute's own choice lets all of them vote.
"""

from __future__ import annotations

import numpy as np

from fute.select.candidates import Candidates, Doubles, Integers
from fute.select.zps import Vote, agreement, pseudo_labels


def filtered_zps(candidates: Candidates, vote: Vote = "log_probability") -> Doubles:
    """(m,) agreement of each candidate with the pseudo-labels of the confident ones."""
    return agreement(candidates, pseudo_labels(candidates.some(confident(candidates)), vote))


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
