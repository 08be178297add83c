"""What is said of packaged models, as rows, counts and a printed table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray
from packaged_models import Packaged
from real_tasks import Task

KNOWS = 0.6
"""Area under the ROC curve from which a model counts as knowing its task; a coin has 0.5."""
TOP = 3


@dataclass(frozen=True, eq=False)
class Ranking:
    """What is said of m models.

    Attributes:
        datasets: (m, d) score of each dataset, higher is nearer.
        models: (m, m) score of each other model.
        p_values: (m,) of the first dataset; None: not told.
        verdicts: m, whether the first dataset fits; None: not told.
    """

    datasets: NDArray[np.floating]
    models: NDArray[np.floating]
    p_values: NDArray[np.floating] | None = None
    verdicts: Sequence[str] | None = None


def describe(
    models: Sequence[Packaged], tasks: Sequence[Task], ranking: Ranking, known: dict[str, dict[str, float]]
) -> list[dict[str, Any]]:
    """One row for each model, as it stands in the results."""
    families = np.array([task.family for task in tasks])
    others = np.where(np.eye(len(models), dtype=bool), -np.inf, ranking.models)
    rows = []
    for m, model in enumerate(models):
        order = np.argsort(-ranking.datasets[m], kind="stable")
        right = np.flatnonzero(families[order] == model.family)
        areas = known.get(model.id, {})
        nearest = models[int(others[m].argmax())]
        rows.append(
            {
                "model": model.id,
                "package": model.package,
                "family": model.family,
                "reason": model.reason,
                "knows": areas,
                "knows_its_task": max(areas.values()) >= KNOWS if areas else None,
                "first": tasks[order[0]].id,
                "first_family": tasks[order[0]].family,
                "score": float(ranking.datasets[m, order[0]]),
                "p_value": None if ranking.p_values is None else float(ranking.p_values[m]),
                "verdict": None if ranking.verdicts is None else ranking.verdicts[m],
                "rank_of_right_family": int(right[0]) + 1 if len(right) else None,
                "nearest_model": nearest.id,
                "nearest_model_family": nearest.family,
                "scores": {tasks[t].id: float(ranking.datasets[m, t]) for t in order},
            }
        )
    return rows


def summarise(rows: Sequence[dict[str, Any]], families: Sequence[str]) -> dict[str, Any]:
    """Counts over the models with a family, over those of them that know their task, and over the rest."""
    within = [row for row in rows if row["family"] is not None]
    groups = {
        "with a family": within,
        "that know their task": [row for row in within if row["knows_its_task"]],
        "of no family here": [row for row in rows if row["family"] is None],
    }
    found: dict[str, Any] = {}
    for name, group in groups.items():
        firsts = Counter(row["first"] for row in group).most_common(1)
        found[name] = {
            "models": len(group),
            "most_frequent_first": firsts[0] if firsts else None,
            "verdicts": dict(Counter(row["verdict"] for row in group if row["verdict"] is not None)),
        }
        if name != "of no family here":
            ranks = [row["rank_of_right_family"] for row in group]
            sizes = [sum(family == row["family"] for family in families) for row in group]
            found[name] |= {
                "family_first": sum(r == 1 for r in ranks),
                "family_in_first_three": sum(r <= TOP for r in ranks),
                "expected_by_chance": [
                    round(sum(1 - comb(len(families) - size, n) / comb(len(families), n) for size in sizes), 1)
                    for n in (1, min(TOP, len(families)))
                ],
                "nearest_model_of_its_family": sum(row["nearest_model_family"] == row["family"] for row in group),
            }
    return found


def report(rows: Sequence[dict[str, Any]], summary: dict[str, Any]) -> None:
    print(
        f"\n{'model':<28}{'right family':<16}{'knows':>6}  {'first':<24}{'score':>7}{'p':>7}  {'verdict':<12}"
        f"{'rank':>5}  nearest model"
    )
    for row in rows:
        knows = f"{max(row['knows'].values()):.2f}" if row["knows"] else "-"
        p_value = "-" if row["p_value"] is None else f"{row['p_value']:.3f}"
        print(
            f"{row['model']:<28}{row['family'] or '-':<16}{knows:>6}  {row['first']:<24}{row['score']:>7.3f}"
            f"{p_value:>7}  {row['verdict'] or '-':<12}{row['rank_of_right_family'] or '-':>5}  {row['nearest_model']}"
        )
    print()
    for name, counts in summary.items():
        told = [f"{counts['models']} models {name}"]
        if "family_first" in counts:
            first, three = counts["expected_by_chance"]
            told += [
                f"right family first {counts['family_first']} (by chance {first})",
                f"in the first three {counts['family_in_first_three']} ({three})",
                f"nearest model of the family {counts['nearest_model_of_its_family']}",
            ]
        if counts["most_frequent_first"]:
            told.append("most often first: {} ({})".format(*counts["most_frequent_first"]))
        told += [f"{verdict}: {count}" for verdict, count in counts["verdicts"].items()]
        print("; ".join(told))
