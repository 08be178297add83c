"""Which model tells two classes apart, from twenty texts of each? And are two models' labels turned?

    python benchmarks/by_class.py           # half an hour the first time, then five minutes

The zoo and the pool of benchmarks/retrieval.py. Of each task of three classes or more, up to six classes are drawn and
each is to be told from the next, by twenty examples of each; the truth is how often each model's own probabilities are
right on up to sixty other texts of each. No model was trained on any of them. "Nobody can": both halves are texts of
one class. Two models are turned by renumbering the classes of one. Every second task chose what ships; the others
judge. Answers are kept in --cache. Needs the shared data: the folder that FUTE_SHARED names, or ../shared beside the
checkout.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from by_class_answers import CLASSES, EXAMPLES, all_answers, read_target
from command import as_run, write_record
from numpy.typing import NDArray
from population import ZOOS, Stopwatch, model_refs, train_zoos
from real_tasks import Task, manifest, read_task, real_pool, task_lists
from retrieval import compute
from scipy.special import expit, softmax
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits
from zoo import ARCHITECTURES

from fute.config import SurrogateConfig
from fute.match.accuracy import matched, named_alike
from fute.match.by_class import CHANCE, balanced, rightly, tell_apart
from fute.match.kernel import TextKernel
from fute.match.readout import read_out
from fute.match.turned import BEFORE, SLOPE, SURE, best_other, by_chance, correlations
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.methods.crosscov.root import cross_covariance
from fute.surrogate.load import load_surrogate
from fute.types import Features, Pool
from storage.stamp import code_version
from storage.store import Store
from tasks.match import LEAST_AGREEMENT

HERE = Path(__file__).parent
PAIR, MEANING, VECTORS = "two classes, as shipped", "each class read as a label", "class vectors"
ABLE = 0.7
"""Truth of a model of the task itself from which it ought to be found."""
FEW_ROWS = 300
"""Of the pool, in which turned labels are looked for too."""
Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--classes", type=int, default=CLASSES, help="of a task, at most")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--device", default="auto", help="for the surrogate: auto, cpu, cuda, mps")
    parser.add_argument("--out", type=Path, default=HERE / "results/by_class.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    learnable, tried = task_lists(shared)
    tasks = [read_task(shared, manifest(shared)[t]) for t in dict.fromkeys([*learnable, *tried])]
    surrogate = load_surrogate(SurrogateConfig(device=options.device), HERE)
    store = Store(options.cache)
    features = store.cached_features(surrogate.id, partial(compute, surrogate))
    told: list[Record] = []
    turned: list[Record] = []
    with threadpool_limits(1):
        for seed in options.seeds:
            pool = real_pool(shared, "loose", seed, tasks)
            train_zoos(tasks, {seed: pool}, features, store, surrogate.width, Stopwatch())
            told += tell(shared, tasks, pool, seed, features, store, surrogate.width, options.classes)
            turned += turn(tasks, pool, seed, store)
    halves: dict[str, Callable[[Record], bool]] = {
        "chosen on": lambda r: r["task"] % 2 == 0,
        "judged on": lambda r: r["task"] % 2 == 1,
    }
    results: Record = {}
    for half, member in halves.items():
        of = [r for r in told if member(r)]
        results[half] = {
            "with": by_class_measures([r for r in of if not r["nobody"]]),
            "without the task's own": by_class_measures([r for r in of if not r["nobody"] and not r["own"]]),
            "nobody can": by_class_measures([r for r in of if r["nobody"]]),
            "turned": {
                f"{rows}, {which}": turned_measures([r for r in turned if member(r) and r[which] and r["rows"] == rows])
                for rows in ("all rows", f"{FEW_ROWS} rows")
                for which in ("same task", "same task, learned", "other task")
            },
        }
    report(results)
    settings = {
        "seeds": options.seeds,
        "examples": EXAMPLES,
        "classes": options.classes,
        "tasks": [t.id for t in tasks],
    }
    write_record(
        {"command": as_run(__file__), "settings": settings, "git_commit": code_version(), "results": results},
        options.out,
    )


def tell(
    shared: Path, tasks: Sequence[Task], pool: Pool, seed: int, features: Features, store: Store, width: int, most: int
) -> list[Record]:
    """One record for each two classes and model."""
    targets = [t for t in (read_target(shared, task, seed, most) for task in tasks) if t is not None]
    texts = targets[0].inputs
    for target in targets[1:]:
        texts = texts.followed_by(target.inputs)
    own = all_answers(tasks, texts, seed, features, width, store.root / "by_class")
    outputs = [store.outputs(pool.id, ref) for task in tasks for ref in model_refs(task, seed, ZOOS[0])]
    kernel = TextKernel(pool.inputs, features(pool.inputs))
    reads = read_out(kernel.pool, outputs)
    of_texts = kernel.texts(texts, features(texts))
    read = [softmax(r.answers(of_texts).astype(np.float32), axis=1) for r in reads]
    embedder = Crosscov(CrosscovConfig(), features, pool)
    vectors = [cross_covariance(*embedder.model_rows(each)) for each in outputs]
    whitened = embedder.whitening.apply(features(texts))
    draw = np.random.default_rng(seed)
    found = []
    start = 0
    for number, target in enumerate(targets):
        rows_of = [start + np.flatnonzero(target.of == c) for c in range(len(target.names))]
        start += len(target.inputs)
        if target.inputs.pairs is not None:  # of pairs of texts little is read: benchmarks/match_kinds.py
            continue
        home = tasks.index(target.task) * len(ARCHITECTURES)
        for case, (a, b) in enumerate(target.pairs):
            for nobody in (False, True):
                first, second = draw.permutation(rows_of[a]), draw.permutation(rows_of[b])
                if nobody:
                    first, second = first[: len(first) // 2], first[len(first) // 2 :]
                few, labels = _labelled(first[:EXAMPLES], second[:EXAMPLES])
                kept, truth = _labelled(first[EXAMPLES:], second[EXAMPLES:])
                apart = whitened[few[labels == 0]].mean(axis=0) - whitened[few[labels == 1]].mean(axis=0)
                for m, model in enumerate(reads):
                    if model.agreement < LEAST_AGREEMENT:
                        continue
                    mine = own[m][kept]
                    told = tell_apart(read[m][few].astype(np.float64), labels, model.agreement)
                    said = read[m][few].argmax(axis=1)
                    meaning, expected = matched(said, labels, mine.shape[1], 2)
                    near = vectors[m].T @ apart / np.maximum(np.linalg.norm(vectors[m], axis=0), 1e-12)
                    two = int(near.argmax()), int(near.argmin())
                    between = vectors[m][:, two[0]] - vectors[m][:, two[1]]
                    closeness = float(between @ apart / max(np.linalg.norm(between), 1e-12))
                    by, low, high = told.accuracy.expected, told.accuracy.low, told.accuracy.high
                    right = balanced(rightly(mine, truth, told.classes), truth)
                    found.append({
                        "task": number, "case": (seed, number, case), "nobody": nobody,
                        "own": home <= m < home + len(ARCHITECTURES), "held": low <= right <= high,
                        "too low": right > high, "width": high - low, "accuracy": told.accuracy,
                        "by": {PAIR: by, MEANING: expected, VECTORS: closeness},
                        "truth": {
                            PAIR: right,
                            MEANING: balanced(meaning[mine.argmax(axis=1)] == truth, truth),
                            VECTORS: balanced(rightly(mine, truth, two), truth),
                        },
                    })  # fmt: skip
        print(f"  {target.task.id}, seed {seed}: told apart", flush=True)
    return found


def _labelled(first: NDArray[np.intp], second: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    return np.concatenate([first, second]), np.repeat([0, 1], [len(first), len(second)])


def by_class_measures(records: Sequence[Record]) -> Record:
    cases: dict[Any, list[Record]] = {}
    for record in records:
        cases.setdefault(record["case"], []).append(record)
    ranked = {}
    for name in (PAIR, MEANING, VECTORS):
        rho, regret, first = [], [], []
        for case in cases.values():
            by, truth = (np.array([r[what][name] for r in case]) for what in ("by", "truth"))
            first.append(truth[by.argmax()])
            regret.append(max(r["truth"][PAIR] for r in case) - first[-1])
            if np.ptp(by) > 0 < np.ptp(truth):
                rho.append(spearmanr(by, truth).statistic)
        ranked[name] = {"rank_correlation": float(np.mean(rho)), "regret": float(np.mean(regret)),
                        "truth_of_first": float(np.mean(first))}  # fmt: skip
    surely = [[r for r in case if r["accuracy"].surely_above_chance(len(case))] for case in cases.values()]
    said = [r for case in surely for r in case]
    firsts = [max(case, key=lambda r: r["by"][PAIR]) for case in surely if case]
    able = [r for r in records if r["own"] and r["truth"][PAIR] >= ABLE]
    ids = {id(r) for r in said}
    return {
        "cases": len(cases),
        "ranked": ranked,
        "somebody is said to": float(np.mean([bool(case) for case in surely])),
        "held": _mean(r["held"] for r in records),
        "held, the task's own": _mean(r["held"] for r in records if r["own"]),
        "held, said to": _mean(r["held"] for r in said),
        "held, the first of those": _mean(r["held"] for r in firsts),
        "better than said": _mean(r["too low"] for r in records),
        "width": _mean(r["width"] for r in records),
        "error, the task's own": _mean(abs(r["by"][PAIR] - r["truth"][PAIR]) for r in records if r["own"]),
        "bias, said to": _mean(r["by"][PAIR] - r["truth"][PAIR] for r in said),
        "said to, but within 0.05 of chance": _mean(r["truth"][PAIR] < CHANCE + 0.05 for r in said),
        "able and of the task, found": _mean(id(r) in ids for r in able),
    }  # fmt: skip


def _mean(values: Any) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None


def turn(tasks: Sequence[Task], pool: Pool, seed: int, store: Store) -> list[Record]:
    """One record for each two models whose classes are called alike: gains as they are, and with one renumbered."""
    draw = np.random.default_rng([seed, 1])
    few = draw.permutation(len(pool))[:FEW_ROWS]
    models = [(i, store.outputs(pool.id, ref)) for i, task in enumerate(tasks) for ref in model_refs(task, seed, *ZOOS)]
    found = []
    for k, (i, one) in enumerate(models):
        for j, other in models[:k]:
            places = named_alike(tasks[i].dataset.label_names or (), tasks[j].dataset.label_names or ())
            if places is None or not len(places) == one.values.shape[1] == other.values.shape[1] or (i + j) % 2:
                continue
            c = len(places)
            renumbered = np.arange(c)
            while (renumbered == np.arange(c)).all():
                renumbered = draw.permutation(c)
            learned = all(o.details["accuracy"] > o.details["majority"] + 0.05 for o in (one, other))
            for name, rows in (("all rows", np.arange(len(pool))), (f"{FEW_ROWS} rows", few)):
                of = correlations(one.values[rows], other.values[rows][:, places])
                gains = [best_other(m)[1] - by_chance(c, len(rows)) for m in (of, of[:, renumbered])]
                found.append({
                    "task": i, "rows": name, "same task": i == j, "other task": i != j,
                    "same task, learned": i == j and learned,
                    "p": expit(np.log(BEFORE / (1 - BEFORE)) + SLOPE * np.array(gains)),
                })  # fmt: skip
    return found


def turned_measures(records: Sequence[Record]) -> Record:
    """False alarms, turned ones that are found, and how often those of a probability are turned, where BEFORE are."""
    as_named, turned = np.array([r["p"] for r in records]).T
    found = {"pairs": len(records), "false": float((as_named >= SURE).mean()), "found": float((turned >= SURE).mean())}
    for low, high in ((0.05, 0.5), (0.5, SURE), (SURE, 1.01)):
        wrong, right = (float(((p >= low) & (p < high)).mean()) for p in (as_named, turned))
        both = wrong * (1 - BEFORE) + right * BEFORE
        found[f"turned, of {low} to {min(high, 1.0)}"] = right * BEFORE / both if both else None
    return found


def report(results: Record) -> None:
    for half, of in results.items():
        print(f"\n{half}")
        for name, values in of.items():
            if name == "turned":
                for which, measures in values.items():
                    print(f"  turned, {which}: {_said(measures)}")
                continue
            print(f"  {name}")
            for method, measures in values["ranked"].items():
                print(f"    {method:<30}{_said(measures)}")
            print(f"    {_said({k: v for k, v in values.items() if k != 'ranked'})}")


def _said(measures: Record) -> str:
    return ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in measures.items())


if __name__ == "__main__":
    main()
