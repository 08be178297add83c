"""Rankings of datasets and models by similarity, measured in each direction, and what they got wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from retrieval_measures import Retrieval, retrieval
from sklearn.metrics import roc_auc_score
from zoo import ARCHITECTURES

from fute.types import Floats

DIRECTIONS = ("dataset to model", "model to dataset", "model to model", "model to other architecture")
Measures = dict[str, dict[str, dict[str, float]]]
"""Direction -> exact, family, or an architecture -> measure -> value."""


@dataclass(frozen=True, eq=False)
class Similarities:
    """Of t datasets and their models, task after task, the architectures in their fixed order.

    Attributes:
        families: (t,).
        dataset_model: (t, m) cosines.
        model_model: (m, m) cosines.
    """

    tasks: Sequence[str]
    families: Sequence[str]
    dataset_model: NDArray[np.floating]
    model_model: NDArray[np.floating]

    @classmethod
    def of(cls, tasks: Sequence[str], families: Sequence[str], datasets: Floats, models: Floats) -> Similarities:
        """From unit vectors (t, dim) and (m, dim)."""
        return cls(tasks, families, datasets @ models.T, models @ models.T)

    @property
    def task_of_model(self) -> NDArray[np.intp]:
        return np.repeat(np.arange(len(self.tasks)), len(ARCHITECTURES))

    @property
    def architecture_of_model(self) -> NDArray[np.intp]:
        return np.tile(np.arange(len(ARCHITECTURES)), len(self.tasks))

    def measure(self) -> Measures:
        """Per architecture: that of the query, or of the candidates where the query is a dataset."""
        result: Measures = {}
        exact = self._comparisons(np.arange(len(self.tasks)))
        family = self._comparisons(np.unique(self.families, return_inverse=True)[1])
        for (direction, scores, relevant, allowed), (_, _, related, _) in zip(exact, family, strict=True):
            parts = {"exact": _means(retrieval(scores, relevant, allowed))}
            parts["family"] = _means(retrieval(scores, related, allowed))
            for number, name in enumerate(ARCHITECTURES):
                rows = self.architecture_of_model == number
                if direction == "dataset to model":
                    found = retrieval(scores[:, rows], relevant[:, rows])
                else:
                    found = retrieval(scores[rows], relevant[rows], allowed[rows])
                parts[name] = _means(found)
            result[direction] = parts
        return result

    def _comparisons(
        self, group: NDArray[np.intp]
    ) -> Iterator[tuple[str, NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Direction, scores, relevant and allowed; two tasks of one group count as the same."""
        of_model = group[self.task_of_model]
        to_model = group[:, None] == of_model
        same = of_model[:, None] == of_model
        other = self.architecture_of_model[:, None] != self.architecture_of_model
        everything = np.ones_like(to_model)
        yield DIRECTIONS[0], self.dataset_model, to_model, everything
        yield DIRECTIONS[1], self.dataset_model.T, to_model.T, everything.T
        yield DIRECTIONS[2], self.model_model, same, ~np.eye(len(same), dtype=bool)
        yield DIRECTIONS[3], self.model_model, same, other

    def misses(self) -> list[dict[str, Any]]:
        """Queries whose first candidate is of another task: what stood first, and the rank of the right one."""
        models = [f"{task}/{name}" for task in self.tasks for name in ARCHITECTURES]
        found = []
        for direction, scores, relevant, allowed in self._comparisons(np.arange(len(self.tasks))):
            queries = list(self.tasks) if direction == DIRECTIONS[0] else models
            candidates = list(self.tasks) if direction == DIRECTIONS[1] else models
            masked = np.where(allowed, scores, -np.inf)
            for query, row in enumerate(masked):
                order = np.argsort(-row, kind="stable")
                rank = int(np.flatnonzero(relevant[query][order])[0]) + 1
                if rank > 1:
                    found.append(
                        {"direction": direction, "query": queries[query], "first": candidates[order[0]], "rank": rank}
                    )
        return found


def _means(found: Retrieval) -> dict[str, float]:
    return {name: value for name, value in asdict(found).items() if name != "queries"}


def over_seeds(runs: Sequence[Measures]) -> dict[str, Any]:
    """The same tables with [mean, standard deviation] over the seeds (0 where there is one seed)."""
    return {
        direction: {
            part: {
                name: [
                    float(np.mean(values := [run[direction][part][name] for run in runs])),
                    float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
                ]
                for name in measures
            }
            for part, measures in parts.items()
        }
        for direction, parts in runs[0].items()
    }


def table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    """P@1 exact (family), MRR and MAP per direction: one line for each variant."""
    width = max(len(name) for name in rows) + 2
    lines = [title, " " * width + "".join(f"{direction:>34}" for direction in DIRECTIONS)]
    lines.append(" " * width + f"{'P@1 ±sd (family)  MRR  MAP':>34}" * len(DIRECTIONS))
    for name, measured in rows.items():
        cells = []
        for direction in DIRECTIONS:
            exact, family = measured[direction]["exact"], measured[direction]["family"]
            mean, deviation = exact["p_at_1"]
            cells.append(
                f"{mean:.3f} ±{deviation:.3f} ({family['p_at_1'][0]:.2f}) {exact['mrr'][0]:.3f} {exact['map'][0]:.3f}"
            )
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>34}" for cell in cells))
    return "\n".join(lines)


def architecture_table(measured: dict[str, Any]) -> str:
    """P@1 (MAP) of each architecture."""
    lines = [f"{'P@1 (MAP) per architecture':<30}" + "".join(f"{name:>16}" for name in ARCHITECTURES)]
    for direction in DIRECTIONS:
        cells = [measured[direction][name] for name in ARCHITECTURES]
        lines.append(f"  {direction:<28}" + "".join(f"{c['p_at_1'][0]:>9.3f} ({c['map'][0]:.2f})" for c in cells))
    return "\n".join(lines)


def detection(learned: NDArray[np.bool_], signals: dict[str, NDArray[np.floating]]) -> dict[str, float]:
    """Area under the ROC curve of each signal for 'the model learned its task'; empty where all or none did."""
    if learned.all() or not learned.any():
        return {}
    return {name: float(roc_auc_score(learned, values)) for name, values in signals.items()}
