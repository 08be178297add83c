"""What a ranking of transfer sources earns on each target, and whether two rankings differ by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.evaluate.transfer import evaluate_selection

Doubles = NDArray[np.float64]
RESAMPLES = 10_000
FEWEST_TARGETS = 8
"""Below which resampling targets says nothing."""
MEASURES = ("best_rank", "ndcg", "ndcg_paper", "regret", "pick_gain")
"""`ndcg` has gains from 0 (the worst source) to 1 (the best); `ndcg_paper` has 2^score - 1."""


@dataclass(frozen=True, eq=False)
class Transfers:
    """Attributes:
    scores: (sources, targets), NaN where a source is no candidate.
    baseline: (targets,) without a source.
    same_family: (sources, targets).
    """

    scores: Doubles
    baseline: Doubles
    same_family: NDArray[np.bool_]


def by_target(transfers: Transfers, similarity: Doubles, *, in_family: bool = False) -> dict[str, Doubles]:
    """Measure -> (targets,), NaN where a target has fewer than two candidates."""
    allowed = transfers.same_family if in_family else np.ones_like(transfers.same_family)
    found = []
    for t in range(transfers.scores.shape[1]):
        one = slice(t, t + 1)
        relative, paper = (
            evaluate_selection(
                transfers.scores[:, one], similarity[:, one], baseline=transfers.baseline[one],
                allowed=allowed[:, one], gain=gain,
            )
            for gain in ("relative", "exponential")
        )  # fmt: skip
        found.append([relative.best_rank, relative.ndcg, paper.ndcg, relative.regret, relative.pick_gain])
    return dict(zip(MEASURES, np.array(found).T, strict=True))


def best_on_average(scores: Doubles) -> Doubles:
    """(sources, targets) mean advantage of each source on all other targets, over the mean of that target's sources."""
    advantage = scores - np.nanmean(scores, axis=0)
    total, count = np.nansum(advantage, axis=1), (~np.isnan(advantage)).sum(axis=1)
    others = count[:, None] - ~np.isnan(advantage)
    return np.asarray((total[:, None] - np.nan_to_num(advantage)) / np.maximum(others, 1))


def family_first(transfers: Transfers) -> Doubles:
    """The target's family, then all others; in both the best on average first."""
    return best_on_average(transfers.scores) + 10.0 * transfers.same_family


def interval(values: Doubles, seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % interval of paired differences (or values), targets resampled."""
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return float("nan"), float("nan"), float("nan")
    draws = np.random.default_rng(seed).integers(len(known), size=(RESAMPLES, len(known)))
    low, high = np.quantile(known[draws].mean(axis=1), [0.025, 0.975])
    return float(known.mean()), float(low), float(high)


def ranks(ids: Sequence[str], similarity: Doubles, best: dict[str, str]) -> dict[str, Any]:
    """Rank of each target's best source among all other tasks; the mean of equal ones."""
    found = {}
    for target, source in best.items():
        t, s = ids.index(target), ids.index(source)
        others = np.delete(similarity[:, t].astype(float), t)
        own = float(similarity[s, t])
        found[target] = float((others > own).sum() + ((others == own).sum() + 1) / 2)
    return {"mean_rank": interval(np.array(list(found.values()))), "candidates": len(ids) - 1, "targets": len(found),
            "rank": found}  # fmt: skip


def verdict(beats: Mapping[str, Doubles], matches: Mapping[str, Doubles]) -> str:
    """Of a claim about paired differences in NDCG: `beats` must lie above 0, `matches` must not lie below it.

    held: every interval of `beats` does, and none of `matches` does. not held: an interval lies below 0. not decidable:
    anything else, and where there are too few targets.
    """
    found = {name: interval(values) for name, values in {**beats, **matches}.items()}
    if any((~np.isnan(values)).sum() < FEWEST_TARGETS for values in (*beats.values(), *matches.values())):
        return "not decidable"
    if any(high < 0 for _, _, high in found.values()):
        return "not held"
    return "held" if all(found[name][1] > 0 for name in beats) else "not decidable"
