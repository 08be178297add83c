"""Source selection: how well does a similarity of sources to a target predict from which source transfer pays?

The test of Vu et al. 2020 (arXiv 2005.00770, section 4) and Zhou et al. 2022: for each target the sources are ranked by
similarity; measured are the rank of the truly best source and the NDCG of the ranking, the scores of all sources being
its gains. Beside them stands what a user feels: the regret of taking the first of the ranking.

Two kinds of ties. Sources of equal similarity count as put in random order: the measures are their expectations over
all orders, so that a method that says nothing earns exactly what chance earns. Of several best sources of equal score,
the one ranked first counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Gain = Literal["exponential", "relative"]
"""What a source of score s (a share, 0 to 1) adds to the DCG before its discount 1 / log2(1 + rank).

exponential: 2^s - 1, the formula of Vu et al. on shares. Scores near each other make every ranking look good (chance
    is often above 0.95): read it beside chance.
relative: (s - worst) / (best - worst) of the target's sources: the worst adds nothing and the best adds 1.
"""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Selection:
    """Means over the targets that have at least two candidates; NaN where there is none.

    Attributes:
        best_rank: (expected) rank of the best source, from 1.
        ndcg: 0 to 1.
        regret: score of the best source minus that of the first pick.
        pick_gain: score of the first pick minus the score without a source; NaN where that is not known.
        targets: how many counted.
    """

    best_rank: float
    ndcg: float
    regret: float
    pick_gain: float
    targets: int


def evaluate_selection(
    scores: Array,
    similarity: Array,
    *,
    baseline: Array | None = None,
    allowed: NDArray[np.bool_] | None = None,
    gain: Gain = "exponential",
) -> Selection:
    """Hold a method's similarities against measured transfer scores.

    Args:
        scores: (sources, targets) held-out score of the target after fine-tuning from the source, 0 to 1, higher is
            better; NaN where it was not measured or makes no sense (a task as its own source): no candidate there.
        similarity: (sources, targets) of one method; NaN where the method cannot rank: such a candidate stands last.
        baseline: (targets,) score without a source.
        allowed: (sources, targets) False for sources that do not compete, see `same_class`.
    """
    # Rounded: means of the same scores in another order are no other scores.
    scores, similarity = np.asarray(scores, dtype=np.float64).round(12), np.asarray(similarity, dtype=np.float64)
    each = []
    for target in range(scores.shape[1]):
        candidate = ~np.isnan(scores[:, target])
        if allowed is not None:
            candidate &= allowed[:, target]
        if candidate.sum() < 2:
            continue  # nothing to choose
        without = np.nan if baseline is None else float(baseline[target])
        each.append(_one_target(scores[candidate, target], similarity[candidate, target], without, gain))
    best_rank, ndcg, regret, pick_gain = np.mean(each, axis=0).tolist() if each else [float("nan")] * 4
    return Selection(best_rank, ndcg, regret, pick_gain, len(each))


def chance(
    scores: Array,
    *,
    baseline: Array | None = None,
    allowed: NDArray[np.bool_] | None = None,
    gain: Gain = "exponential",
) -> Selection:
    """What random rankings earn on average, in closed form.

    Of n candidates of which k share the best score: best rank (n + 1) / (k + 1); DCG the mean gain times the sum of
    all discounts; regret the best score minus the mean score.
    """
    nothing = np.zeros_like(np.asarray(scores, dtype=np.float64))
    return evaluate_selection(scores, nothing, baseline=baseline, allowed=allowed, gain=gain)


def same_class(source_classes: Sequence[str | None], target_classes: Sequence[str | None]) -> NDArray[np.bool_]:
    """(sources, targets) True where both are of one known class (family, task type): the in-class test."""
    return np.array([[s is not None and s == t for t in target_classes] for s in source_classes], dtype=bool).reshape(
        len(source_classes), len(target_classes)
    )


def _one_target(scores: Array, similarity: Array, without: float, gain: Gain) -> tuple[float, float, float, float]:
    """best_rank, ndcg, regret and pick_gain of one ranking."""
    groups = _tied_groups(similarity)
    best = scores.max()
    gains = _gains(scores, gain)
    discounts = 1.0 / np.log2(np.arange(2, len(scores) + 2))
    dcg, before, best_rank = 0.0, 0, np.nan
    for group in groups:
        dcg += gains[group].mean() * discounts[before : before + len(group)].sum()
        n_best = int((scores[group] == best).sum())
        if n_best and np.isnan(best_rank):
            best_rank = before + (len(group) + 1) / (n_best + 1)  # first of n_best among so many in random order
        before += len(group)
    ideal = float((np.sort(gains)[::-1] * discounts).sum())
    pick = float(scores[groups[0]].mean())
    ndcg = dcg / ideal if ideal > 0 else 1.0  # no source gains anything: every ranking is as good
    return float(best_rank), ndcg, float(best) - pick, pick - without


def _tied_groups(similarity: Array) -> list[NDArray[np.intp]]:
    """Candidates of equal similarity, the most similar first; those without a similarity last."""
    known = np.flatnonzero(~np.isnan(similarity))
    levels = np.unique(similarity[known])[::-1]
    groups = [known[similarity[known] == level] for level in levels]
    unknown = np.flatnonzero(np.isnan(similarity))
    return [*groups, unknown] if len(unknown) else groups


def _gains(scores: Array, gain: Gain) -> Array:
    if gain == "exponential":
        return np.exp2(scores) - 1.0
    spread = scores.max() - scores.min()
    return (scores - scores.min()) / spread if spread > 0 else np.zeros_like(scores)
