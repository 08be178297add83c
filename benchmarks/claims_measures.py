"""What a ranking of transfer sources earns on each target, and whether two rankings differ by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.evaluate.transfer import evaluate_selection
from fute.evaluate.transfer_scores import TransferScores

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
    backbone: (sources,) number of the backbone that each was fine-tuned from.
    draws: (targets,) of rows, over which scores are means.
    """

    scores: Doubles
    baseline: Doubles
    same_family: NDArray[np.bool_]
    backbone: NDArray[np.intp]
    draws: NDArray[np.intp]

    @classmethod
    def of(cls, measured: Sequence[TransferScores]) -> Transfers:
        """The sources of one backbone, or of several as rivals, over the draws that all have.

        Without a source one starts from the plain backbone that is better on the other targets.

        Raises:
            SystemExit: a target has no draw that all have.
        """
        draws = min(each.scores.shape[2] for each in measured)
        whole = replace(
            measured[0],
            sources=[name for each in measured for name in each.sources],
            source_families=[family for each in measured for family in each.source_families],
            scores=np.concatenate([each.scores[:, :, :draws] for each in measured]),
            baseline=np.stack([each.baseline[:, :draws] for each in measured]).mean(axis=0),
        )
        own = np.array([[source == target for target in whole.targets] for source in whole.sources])
        if not np.array_equal(np.isnan(whole.mean_scores), own):
            raise SystemExit(
                "a source has no transfer to a target in any draw that all have; let transfer.py end first"
            )
        plain = np.stack([replace(whole, baseline=each.baseline[:, :draws]).mean_baseline for each in measured])
        others = plain.sum(axis=1, keepdims=True) - plain
        baseline = np.take_along_axis(plain, others.argmax(axis=0)[None], axis=0)[0]
        backbone = np.repeat(np.arange(len(measured)), [len(each.sources) for each in measured])
        return cls(whole.mean_scores, baseline, whole.same_family, backbone, whole.counted.sum(axis=1))

    @property
    def several(self) -> bool:
        return bool(self.backbone.max() > 0)


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


def stronger_first(transfers: Transfers) -> Doubles:
    """(sources, targets) the mean of all sources of its backbone on all other targets: it knows nothing else."""
    on_average = backbone_means(transfers, transfers.scores)
    others = on_average.sum(axis=1, keepdims=True) - on_average
    return np.asarray(others[transfers.backbone])


def less_backbone(transfers: Transfers, similarity: Doubles) -> Doubles:
    """Without the mean of each backbone's candidates: what a similarity says beside which backbone is better."""
    return similarity - backbone_means(transfers, similarity)[transfers.backbone]


def backbone_means(transfers: Transfers, values: Doubles) -> Doubles:
    """(backbones, targets) of those sources that are candidates."""
    candidates = np.where(np.isnan(transfers.scores), np.nan, values)
    return np.stack(
        [np.nanmean(candidates[transfers.backbone == b], axis=0) for b in range(transfers.backbone.max() + 1)]
    )


def picks(transfers: Transfers, similarity: Doubles) -> float:
    """Share of targets whose first pick is of the first backbone; of equal ones the share among them."""
    by = np.where(np.isnan(transfers.scores), -np.inf, similarity)
    return float(np.mean([(transfers.backbone[column == column.max()] == 0).mean() for column in by.T]))


def lexicographic(first: Doubles, then: Doubles) -> Doubles:
    """(sources, targets) by the first, among equal ones by the other."""
    return np.stack(
        [
            np.unique(np.stack(pair, axis=1), axis=0, return_inverse=True)[1]
            for pair in zip(first.T, then.T, strict=True)
        ],
        axis=1,
    ).astype(np.float64)


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
