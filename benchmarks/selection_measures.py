"""How good a ranking of candidates is, once their accuracies are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from fute.select.candidates import Doubles


@dataclass(frozen=True)
class RankingQuality:
    """Attributes:
    rank_correlation: Spearman's rho of scores and accuracies; 0 where all scores are equal.
    regret: accuracy of the best candidate less that of the chosen one, as a share (0.01 is one point).
    ndcg: discounted gain of the whole ranking over that of the best possible one.
    """

    rank_correlation: float
    regret: float
    ndcg: float


def ranking_quality(scores: Doubles, accuracies: Doubles) -> RankingQuality:
    """Measure (m,) scores, higher is better, against (m,) accuracies in [0, 1].

    Equal scores count as a draw in random order: the regret and the gain are means over the candidates that tie. A
    score that is not a number ranks last.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    firsts = scores == scores.max()
    return RankingQuality(
        spearman(scores, accuracies),
        float(accuracies.max() - accuracies[firsts].mean()),
        ndcg(scores, accuracies),
    )


def spearman(x: Doubles, y: Doubles) -> float:
    """Pearson's correlation of mean ranks."""
    a, b = (ranks - ranks.mean() for ranks in (rankdata(x), rankdata(y)))
    length = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float(a @ b) / length if length > 0 else 0.0


def ndcg(scores: Doubles, gains: NDArray[np.floating]) -> float:
    """Sum of gains over log2(1 + rank), as a share of the same sum in the best order; 1 where nothing can be gained."""
    discounts = 1 / np.log2(np.arange(2, len(scores) + 2))
    best = float(np.sort(gains)[::-1] @ discounts)
    ranks = np.unique(-scores, return_inverse=True)[1]
    order = np.argsort(ranks, kind="stable")
    sums = np.bincount(ranks, weights=gains) / np.bincount(ranks)  # tied candidates share their mean gain
    return float(sums[ranks][order] @ discounts) / best if best > 0 else 1.0
