"""How often will models be right, without labels and with a few? Expected accuracies against the truth.

    python benchmarks/match_unlabelled.py [--seeds N] [--draws N]

Models that answer the same labels, on texts whose labels are looked at for measuring alone: small models of tasks with
the same labels (benchmarks/match.py's, by their own answers and by what is read out of those on the pool), and prompts
(50 of OPT-2.7B on SST-2, 13 of the answerer on ten targets). Rivals: the consensus as it is, and counting the same
number of labels drawn evenly. Needs the shared data: the folder that FUTE_SHARED names, or ../shared.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from command import write_record
from match import all_answers, asked
from numpy.typing import NDArray
from population import model_refs
from prompt_calibration import ask_network, read_opt
from real_tasks import manifest, read_task, real_pool, split_rows, task_lists
from retrieval import compute
from threadpoolctl import threadpool_limits
from zoo import ARCHITECTURES

from fute.config import SurrogateConfig
from fute.match.kernel import TextKernel
from fute.match.readout import read_out
from fute.match.unlabelled import judge, worth_labelling
from fute.select.consensus import consensus
from fute.surrogate.load import load_surrogate
from storage.stamp import code_version
from storage.store import Store
from tasks.match import LEAST_AGREEMENT

HERE = Path(__file__).resolve().parent
TEXTS = 300
LABELS = (0, 10, 20, 50)
MODELS = (None, 6, 3)
"""All models of a group, or so many drawn from it."""
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Case:
    """Attributes:
    answers: (m, n).
    truth: (m,) accuracy of the models' own answers.
    """

    kind: str
    name: str
    answers: Integers
    labels: Integers
    n_labels: int
    truth: NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the small models")
    parser.add_argument("--draws", type=int, default=3, help="of texts")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--out", type=Path, default=HERE / "results/match_unlabelled.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED") or HERE.parents[1] / "shared")
    with threadpool_limits(1):
        cases = [*prompts(shared, options.cache), *small_models(shared, options.seeds, options.cache)]
        results = {
            kind: {
                f"{'all' if m is None else m} models, {k} labels": measure(
                    [c for c in cases if c.kind == kind], m, k, options.draws
                )
                for m in MODELS
                for k in LABELS
            }
            for kind in dict.fromkeys(c.kind for c in cases)
        }
    for kind, found in results.items():
        print(f"\n{kind}")
        for name, values in found.items():
            print(f"  {name:<22}" + "  ".join(f"{k} {v:.3f}" for k, v in values.items()))
    record = {
        "cases": [f"{c.kind}: {c.name}" for c in cases],
        "draws": options.draws,
        "git_commit": code_version(),
        "results": results,
    }
    write_record(record, options.out)


def prompts(shared: Path, cache: Path) -> Iterator[Case]:
    for found in (read_opt(shared / "llm"), *ask_network(shared, cache, 120)):
        answers = found.candidates.labels
        truth = (answers == found.labels).mean(axis=1)
        yield Case("prompts", found.name, answers, found.labels, len(found.candidates.label_names), truth)


def small_models(shared: Path, seeds: Sequence[int], cache: Path) -> Iterator[Case]:
    """Groups of tasks with the same labels, each task as the target of all models of its group."""
    learnable, tried = task_lists(shared)
    tasks = [read_task(shared, manifest(shared)[t]) for t in [*learnable, *(t for t in tried if t not in learnable)]]
    surrogate = load_surrogate(SurrogateConfig(), HERE)
    store = Store(cache)
    features = store.cached_features(surrogate.id, partial(compute, surrogate))
    names = [[n.casefold() for n in task.dataset.label_names or ()] for task in tasks]
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, each in enumerate(names):
        groups[tuple(sorted(each))].append(i)
    for seed in seeds:
        pool = real_pool(shared, "loose", seed, tasks)
        own = all_answers(tasks, seed, features, surrogate.width, cache / "match")
        kernel = TextKernel(pool.inputs, features(pool.inputs))
        wanted = [i for members in groups.values() if len(members) > 1 for i in members]
        outputs = {i: [store.outputs(pool.id, ref) for ref in model_refs(tasks[i], seed, "main")] for i in wanted}
        read = dict(
            zip(
                wanted,
                np.array(read_out(kernel.pool, [o for i in wanted for o in outputs[i]])).reshape(len(wanted), -1),
                strict=True,
            )
        )
        for members in groups.values():
            for j in members if len(members) > 1 else ():
                rows = asked(split_rows(tasks[j], seed))
                labels = tasks[j].labels[rows]
                texts = kernel.texts(tasks[j].inputs.take(rows), features(tasks[j].inputs)[rows])
                said, by_read_out, follows = [], [], []
                for i in members:
                    order = np.array([names[j].index(name) for name in names[i]])
                    for a in range(len(ARCHITECTURES)):
                        said.append(order[own(i, a, j)])
                        by_read_out.append(order[read[i][a].answers(texts).argmax(axis=1)])
                        follows.append(read[i][a].agreement >= LEAST_AGREEMENT)
                answers, keep = np.stack(said), np.array(follows)
                truth = (answers == labels).mean(axis=1)
                name = f"{tasks[j].id}, seed {seed}"
                yield Case("small models, asked", name, answers, labels, len(names[j]), truth)
                if keep.any():
                    yield Case(
                        "small models, read out", name, np.stack(by_read_out)[keep], labels, len(names[j]), truth[keep]
                    )


def measure(cases: Sequence[Case], models: int | None, k: int, draws: int) -> dict[str, float]:
    """Means over the cases and draws of which something is said."""
    found: list[dict[str, float]] = []
    for case in cases:
        for seed in range(draws):
            rng = np.random.default_rng([seed, len(case.name)])
            m = np.arange(len(case.truth))
            if models is not None:
                m = rng.choice(m, min(models, len(m)), replace=False)
            drawn = rng.permutation(len(case.labels))[:TEXTS]
            answers, labels, truth = case.answers[np.ix_(m, drawn)], case.labels[drawn], case.truth[m]
            rows = worth_labelling(answers, case.n_labels, k, seed) if k else None
            told = judge(answers, case.n_labels, rows, None if rows is None else labels[rows]).accuracies
            if told is not None:
                found.append(_one(answers, labels, truth, case.n_labels, k, told, rng))
    said = {key: float(np.mean([each[key] for each in found])) for key in (found[0] if found else {})}
    return {"said": len(found) / (len(cases) * draws), **said}


def _one(
    answers: Integers,
    labels: Integers,
    truth: NDArray[np.float64],
    n_labels: int,
    k: int,
    told: Any,
    rng: np.random.Generator,
) -> dict[str, float]:
    expected = np.array([a.expected for a in told])
    inside = np.array([a.low <= t <= a.high for a, t in zip(told, truth, strict=True)])
    posterior = consensus(answers, n_labels).posterior
    raw = np.take_along_axis(posterior, answers.T, axis=1).mean(axis=0)
    few = rng.permutation(len(labels))[:k]
    counted = (answers[:, few] == labels[few]).mean(axis=1) if k else raw
    best = int(expected.argmax())
    values = {
        "error": float(np.abs(expected - truth).mean()),
        "coverage": float(inside.mean()),
        "coverage_of_best": float(inside[best]),
        "width": float(np.mean([a.high - a.low for a in told])),
        "regret": float(truth.max() - truth[best]),
    }
    for name, by in (("consensus", raw), ("counting", counted + 1e-6 * raw)):
        values[f"{name}_error"] = float(np.abs(by - truth).mean())
        values[f"{name}_regret"] = float(truth.max() - truth[by.argmax()])
    return values


if __name__ == "__main__":
    main()
