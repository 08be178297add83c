"""Small, uneven and growing zoos, models whose task nobody has, outputs that say nothing: drawn from one population.

A score depends on its two subjects and the space alone, so a zoo is a choice of rows and columns; that this is so is a
test of the pipeline (tests/flows).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zoo import ARCHITECTURES

from fute.types import Kind
from fute.unify.frame import Nulls, verdict

Doubles = NDArray[np.float64]
TASKS, MODELS, TRIALS = 6, 11, 300
STEPS = (3, 10, 20, 40, 60)  # subjects of a growing zoo
EACH = len(ARCHITECTURES)


def uneven(scores: Doubles, families: Sequence[str], seed: int) -> dict[str, float]:
    """Six datasets, eleven models, three of them of one task, and one latecomer of a family that no dataset has.

    Args:
        scores: (t, t x architectures) datasets by models.
    """
    draw = np.random.default_rng(seed)
    family = np.asarray(families)
    found: dict[str, list[float]] = {"dataset to model": [], "model to dataset": [], "foreign latecomer first": []}
    for _ in range(TRIALS):
        tasks = draw.permutation(len(family))[: min(TASKS, len(family) - 1)]
        rest = np.concatenate([t * EACH + np.arange(EACH) for t in tasks[1:]])
        models = np.concatenate([tasks[0] * EACH + np.arange(EACH), draw.permutation(rest)[: MODELS - EACH]])
        strange = np.flatnonzero(~np.isin(family, family[tasks]))
        if not len(strange):
            continue
        late = int(draw.choice(strange)) * EACH + int(draw.integers(EACH))
        has_model = np.isin(tasks, models // EACH)
        here = scores[np.ix_(tasks, models)]
        found["dataset to model"].append((models[here.argmax(axis=1)] // EACH == tasks)[has_model].mean())
        found["model to dataset"].append((tasks[here.argmax(axis=0)] == models // EACH).mean())
        found["foreign latecomer first"].append((scores[tasks, late] > here.max(axis=1))[has_model].mean())
    return {name: float(np.mean(values)) for name, values in found.items()}


def growing(scores: Doubles, seed: int) -> dict[str, dict[str, float]]:
    """Subjects arrive one by one: by how many there are, how often the first model of a dataset is of its task."""
    draw = np.random.default_rng(seed)
    right: dict[int, list[float]] = {step: [] for step in STEPS}
    t = len(scores)
    for _ in range(TRIALS):
        order = draw.permutation(t + t * EACH)  # datasets, then models
        for step in STEPS:
            here = order[:step]
            tasks, models = here[here < t], here[here >= t] - t
            able = np.isin(tasks, models // EACH)
            if able.any():
                first = models[scores[np.ix_(tasks[able], models)].argmax(axis=1)] // EACH
                right[step].append(float((first == tasks[able]).mean()))
    return {str(step): {"dataset to model": float(np.mean(values))} for step, values in right.items() if values}


def verdicts(
    scores: Doubles, families: Sequence[str], nulls: Nulls, shuffled: Doubles, unrelated: Doubles
) -> dict[str, dict[str, float]]:
    """What is said of first neighbours: of right ones, of those of another family, and of shuffled outputs.

    Args:
        shuffled: (t, models) scores of the shuffled models.
        unrelated: (models,) their own p-values.
    """
    family = np.asarray(families)
    own_task = np.repeat(np.arange(len(scores)), EACH)
    foreign = family[:, None] != np.repeat(family, EACH)[None]
    pair: tuple[Kind, Kind] = ("dataset", "model")
    null = nulls[pair]
    told: dict[str, dict[str, float]] = {}
    for direction, axis in (("dataset to model", 1), ("model to dataset", 0)):
        first = scores.argmax(axis=axis)
        right = own_task[first] == np.arange(len(scores)) if axis == 1 else first == own_task
        n = scores.shape[axis]
        told[f"{direction}: right first neighbours"] = _shares(
            [null.p_value(s, n) for s in scores.max(axis=axis)[right]]
        )
        best = np.where(foreign, scores, -np.inf).max(axis=axis)
        able = np.isfinite(best)
        told[f"{direction}: only other families"] = _shares(
            [null.p_value(s, int(k)) for s, k in zip(best[able], foreign.sum(axis=axis)[able], strict=True)]
        )
    chances = [null.p_value(s, len(scores)) for s in shuffled.max(axis=0)] if shuffled.size else []
    told["model to dataset: shuffled outputs"] = _shares(
        [None if c is None else max(c, u) for c, u in zip(chances, unrelated, strict=True)]
    )
    return told


def _shares(p_values: Sequence[float | None]) -> dict[str, float]:
    said = [verdict(p) for p in p_values]
    return {name: said.count(name) / max(1, len(said)) for name in ("fits", "may fit", "nothing")}


def told(results: dict[str, Any]) -> str:
    lines = ["small zoos (6 datasets, 11 models): " + ", ".join(f"{k} {v:.3f}" for k, v in results["uneven"].items())]
    grown = ", ".join(f"{step} subjects {found['dataset to model']:.3f}" for step, found in results["growing"].items())
    lines.append(f"growing zoos, dataset to model: {grown}")
    lines += [
        f"  {what:<48}" + ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
        for what, shares in results["verdicts"].items()
    ]
    return "\n".join(lines)
