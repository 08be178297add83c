"""Reading back the transfer scores that benchmarks/transfer.py wrote, and what they say by themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fute.evaluate.transfer_scores import NO_SOURCE as NONE
from fute.evaluate.transfer_scores import TransferScores

__all__ = ["NONE", "load_scores", "summary"]


def load_scores(path: Path, measure: str = "accuracy") -> TransferScores:
    """The scores, as far as the measurement has come.

    Args:
        measure: accuracy or macro_f1.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    settings = record["settings"]["transfer"]
    families = {name: entry["family"] for name, entry in record["sources"].items()}
    cells = [(c["source"], c["target"], c["seed"], c[measure]) for c in record["cells"]]
    return TransferScores.of(settings["sources"], settings["targets"], families, settings["seeds"], cells)


def summary(found: TransferScores) -> str:
    """For each target: no source, the mean of its family and of the others, the best; then the means over targets."""
    scores, baseline = found.mean_scores, found.mean_baseline
    lines = [f"{'target':<24}{'none':>7}{'family':>8}{'others':>8}{'best':>7}  best source"]
    rows = []
    for t, target in enumerate(found.targets):
        if np.isnan(scores[:, t]).all():
            continue
        near = found.same_family[:, t]
        best = int(np.nanargmax(scores[:, t]))
        row = [baseline[t], np.nanmean(scores[near, t]), np.nanmean(scores[~near, t]), scores[best, t]]
        rows.append(row)
        lines.append(_line(target, row) + found.sources[best] + (" (family)" if near[best] else ""))
    if rows:
        lines.append(_line(f"mean of {len(rows)}", list(np.mean(rows, axis=0))))
    return "\n".join(lines)


def _line(name: str, row: list[float]) -> str:
    return f"{name:<24}{row[0]:>7.3f}{row[1]:>8.3f}{row[2]:>8.3f}{row[3]:>7.3f}  "
