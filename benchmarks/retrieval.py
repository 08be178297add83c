"""Does the nearest embedding do the same task? crosscov on real tasks, three models each, against simple baselines.

    python benchmarks/retrieval.py --tasks 29 --seeds 0 1 2

Needs the shared data: the folder that FUTE_SHARED names, or ../shared beside the checkout. A seed decides which rows of
a task train its models, which make its dataset embedding and which measure accuracy, and the pool. Features and
models' outputs are kept in --cache.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from baselines import random_vectors
from command import write_record
from population import Population, Stopwatch, Vectors, embed, scores, train_zoos
from rankings import DIRECTIONS, Measures, Similarities, architecture_table, detection, over_seeds, table
from real_tasks import Task, manifest, read_task, real_pool, task_lists
from small_zoos import growing, uneven, verdicts
from small_zoos import told as small_zoos_told
from threadpoolctl import threadpool_limits
from zoo import ARCHITECTURES

from fute.config import SurrogateConfig
from fute.methods.crosscov.config import CrosscovConfig
from fute.surrogate.features import compute_features
from fute.surrogate.load import Surrogate, load_surrogate
from fute.types import Features, Floats, Pool, TextTable
from fute.unify.frame import Frame
from storage.stamp import code_version
from storage.store import Store

HERE = Path(__file__).parent
QUICK_TASKS = 8
SHIPPED, COSINE, NOTHING, OTHER_ROWS, LAST_LAYER, RANDOM, WORDS = (
    "crosscov, as shipped (scores)",
    "  cosines in the frame",
    "  no frame: cosines of the vectors",
    "  models share no training row",
    "  last layer only",
    "random",
    "bag of words",
)


def main() -> None:
    options = _options()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    watch = Stopwatch()
    learnable, tried = task_lists(shared)
    chosen = [*learnable, *(t for t in tried if t not in learnable)]
    with watch.stage("reading tasks"):
        # The pool leaves out rows of all 66, so that it is the same whichever tasks are asked for.
        everything = [read_task(shared, manifest(shared)[task]) for task in chosen]
    tasks = everything[: QUICK_TASKS if options.quick else int(options.tasks)]
    surrogate = load_surrogate(SurrogateConfig(device=options.device), HERE)
    store = Store(options.cache)
    features = store.cached_features(surrogate.id, partial(compute, surrogate))
    pools = {}
    for seed in options.seeds:
        with watch.stage("building the pool"):
            pools[seed] = real_pool(shared, options.pool, seed, everything)
        with watch.stage("features of the pool"):
            features(pools[seed].inputs)
        print(f"pool {seed}: {len(pools[seed])} texts", flush=True)
    with watch.stage("features of the tasks"):
        for task in tasks:
            features(task.inputs)
    # Thousands of small decompositions: a second thread makes each of them slower.
    with threadpool_limits(1):
        results = measure(tasks, len(learnable), pools, features, store, surrogate.width, watch)
    for name, summary in results.items():
        report(f"{name} tasks x {len(ARCHITECTURES)}, {options.pool} pool, seeds {options.seeds}", summary)
    print("\nSeconds per stage (features and outputs that lie in the cache cost nothing):")
    for stage, seconds in watch.seconds.items():
        print(f"  {stage:<28}{seconds:>9.1f}")
    record = {
        "settings": {
            "tasks": [task.id for task in tasks], "seeds": options.seeds, "pool": options.pool,
            "pool_rows": [len(pool) for pool in pools.values()], "surrogate": surrogate.config.identity(),
            "method": CrosscovConfig().identity(),
        },
        "versions": {n: version(n) for n in ("fute", "numpy", "scikit-learn", "torch", "transformers")}
        | {"python": platform.python_version()},
        "git_commit": code_version(),
        "seconds": {stage: round(seconds, 1) for stage, seconds in watch.seconds.items()},
        "results": results,
    }  # fmt: skip
    write_record(record, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", choices=["29", "66"], default="29")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TASKS} tasks, to see that it runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--pool", choices=["loose", "strict"], default="loose", help=real_pool.__doc__)
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--device", default="auto", help="for the surrogate: auto, cpu, cuda, mps")
    parser.add_argument("--out", type=Path, default=HERE / "results/retrieval.json")
    return parser.parse_args()


def compute(surrogate: Surrogate, inputs: TextTable) -> Floats:
    started = time.perf_counter()
    values = compute_features(surrogate, inputs)
    print(f"  features of {len(inputs)} texts: {time.perf_counter() - started:.1f} s", flush=True)
    return values


def measure(
    tasks: Sequence[Task],
    learnable: int,
    pools: dict[int, Pool],
    features: Features,
    store: Store,
    width: int,
    watch: Stopwatch,
) -> dict[str, Any]:
    """Number of tasks -> what was measured on them. The learnable tasks come first, and are a list of their own."""
    train_zoos(tasks, pools, features, store, width, watch)
    lists = {str(len(tasks)): list(range(len(tasks)))}
    if len(tasks) > learnable:
        lists = {str(learnable): list(range(learnable)), **lists}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in lists}
    for seed, pool in pools.items():
        population = embed(tasks, pool, seed, features, store, width, watch)
        for name, members in lists.items():
            with watch.stage("rankings"):
                runs[name].append(evaluate(tasks, population, members, seed))
            print(f"seed {seed}, {name} tasks: done", flush=True)
    return {name: summarise(found) for name, found in runs.items()}


def evaluate(tasks: Sequence[Task], population: Population, members: Sequence[int], seed: int) -> dict[str, Any]:
    """Measures of every variant on some of the tasks."""
    names, families = [tasks[i].id for i in members], [tasks[i].family for i in members]
    frame, last_frame = population.frames
    raw = population.vectors.of(members)
    placed, last = raw.placed(frame), population.last_layer.of(members).placed(last_frame)
    words = population.words.of(members)
    similar = {
        SHIPPED: scored(names, families, frame, placed),
        COSINE: Similarities.of(names, families, placed.datasets, placed.models),
        NOTHING: Similarities.of(names, families, raw.datasets, raw.models),
        LAST_LAYER: scored(names, families, last_frame, last),
        WORDS: Similarities.of(names, families, words.datasets, words.models),
        RANDOM: random_vectors(names, families, seed),
    }
    # Each model asks for models of the second zoo; datasets are not asked, for that zoo was trained on their rows.
    strangers = frame.place(population.other_rows.of(members).models)
    shipped = similar[SHIPPED].dataset_model
    apart = scores(frame, placed.models, "model", strangers, "model")
    similar[OTHER_ROWS] = Similarities(names, families, shipped, apart)

    own = np.repeat(np.arange(len(members)), len(ARCHITECTURES)), np.arange(len(members) * len(ARCHITECTURES))
    chosen = [i * len(ARCHITECTURES) + a for i in members for a in range(len(ARCHITECTURES))]
    learned = population.learned[chosen]
    mixed = scores(frame, placed.datasets, "dataset", frame.place(population.shuffled[chosen]), "model")
    task_of_model = similar[SHIPPED].task_of_model
    signals = {
        "cosine to its dataset, no frame": similar[NOTHING].dataset_model[own],
        "score with its dataset": shipped[own],
        "highest score with any dataset": shipped.max(axis=0),
    }
    return {
        "measures": {name: s.measure() for name, s in similar.items()},
        "no_common_row_first": float((task_of_model[apart.argmax(axis=1)] == task_of_model).mean()),
        "small_zoos": {
            "uneven": uneven(shipped, families, seed),
            "growing": growing(shipped, seed),
            "verdicts": verdicts(shipped, families, frame.nulls, mixed, population.unrelated[chosen]),
        },
        "learned": [int(learned.sum()), len(learned)],
        "detection": detection(learned, signals),
        "misses": [{"seed": seed, **miss} for miss in similar[SHIPPED].misses()],
        "accuracies": {name: population.accuracies[name] for name in names},
    }


def scored(names: Sequence[str], families: Sequence[str], frame: Frame, placed: Vectors) -> Similarities:
    return Similarities(
        names,
        families,
        scores(frame, placed.datasets, "dataset", placed.models, "model"),
        scores(frame, placed.models, "model", placed.models, "model"),
    )


def summarise(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    order = [SHIPPED, COSINE, NOTHING, OTHER_ROWS, LAST_LAYER, RANDOM, WORDS]
    measured: list[dict[str, Measures]] = [run["measures"] for run in runs]
    return {
        "variants": {name: over_seeds([m[name] for m in measured]) for name in order if name in measured[0]},
        "no_common_row_first": [run["no_common_row_first"] for run in runs],
        "small_zoos": [run["small_zoos"] for run in runs],
        "learned": [run["learned"] for run in runs],
        "detection": {
            signal: [run["detection"][signal] for run in runs if signal in run["detection"]]
            for signal in runs[0]["detection"]
        },
        "misses": [miss for run in runs for miss in run["misses"]],
        "accuracies": [run["accuracies"] for run in runs],
    }


def report(title: str, summary: dict[str, Any]) -> None:
    print("\n" + table(title, summary["variants"]))
    print("\n" + architecture_table(summary["variants"][SHIPPED]))
    print("\nfirst of the other zoo's models (no common training row) of the same task: "
          + ", ".join(f"{share:.3f}" for share in summary["no_common_row_first"]))  # fmt: skip
    for number, found in enumerate(summary["small_zoos"]):
        print(f"\nseed number {number}: {small_zoos_told(found)}")
    print("\nmodels that learned their task: " + ", ".join(f"{a} of {b}" for a, b in summary["learned"]))
    for signal, areas in summary["detection"].items():
        print(f"  AUC of {signal:<46}{np.mean(areas):.3f}")
    print(f"\nevery miss of {SHIPPED} (the rank of the right one in brackets):")
    for direction in DIRECTIONS:
        found = [m for m in summary["misses"] if m["direction"] == direction]
        print(f"  {direction}: {len(found)}")
        for miss in found:
            print(f"    seed {miss['seed']}  {miss['query']} -> {miss['first']} ({miss['rank']})")


if __name__ == "__main__":
    main()
