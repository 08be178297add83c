"""The referee's table: one zoo, one protocol, fute's methods and other people's.

    OMP_NUM_THREADS=1 python benchmarks/referee.py --zoo 29          # what costs minutes
    OMP_NUM_THREADS=1 python benchmarks/referee.py --zoo 13 --methods tupate taskemb
    python benchmarks/referee.py --page                              # docs/referee.md from all results

Models, datasets, pool and rows are those of benchmarks/retrieval.py and benchmarks/match.py. Every method is asked
which models go with a dataset, which datasets with a model, and which models with a model, with and without common
training rows; and which model will be right most often on a new target. It answers with a matrix of similarities, or
not at all.

Results are rows of `referee_rows.SCHEMA` in Parquet files under results/referee; a file with other rows of that schema
takes part in the table as well.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from claims_measures import interval
from numpy.typing import NDArray
from population import Stopwatch, train_zoos
from quality import TASKS as FEWER
from real_tasks import manifest, read_task, real_pool, task_lists
from referee_methods import CHEAP, EVERY, SHIPPED, Answer, Zoo
from referee_page import with_tables
from referee_rows import read_rows, write_rows
from retrieval_measures import retrieval
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits
from zoo import ARCHITECTURES

from fute.config import SurrogateConfig
from fute.surrogate.features import compute_features
from fute.surrogate.load import load_surrogate
from storage.store import Store

HERE = Path(__file__).parent
Doubles = NDArray[np.float64]
Truth = NDArray[np.bool_]
Asked = tuple[str, Doubles | None, Truth, Truth, Truth | None, NDArray[np.intp]]
"""Question, similarities, what is relevant, what is of its family, what a query may see, and the task of each query."""


def main() -> None:
    options = _options()
    if options.page:
        page = HERE.parent / "docs/referee.md"
        page.write_text(with_tables(page.read_text(encoding="utf-8"), read_rows()), encoding="utf-8")
        return
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    zoo = open_zoo(shared, options.zoo, options.cache)
    methods = options.methods or list(CHEAP)
    chosen = [name for name in EVERY if any(name == m or name.startswith(f"{m},") for m in methods)]
    with threadpool_limits(1):
        # All methods are judged by it, and the time that it takes is none of theirs.
        print(f"{zoo.name}, {zoo.matched.truth.shape[1]} models", flush=True)
        for name in chosen:
            started = time.perf_counter()
            answer = EVERY[name](zoo)
            seconds = (time.perf_counter() - started) / (len(zoo.outputs) + len(zoo.tasks))
            ready = name in zoo.matched.ranked or name == SHIPPED
            rows = list(measured(zoo, name, answer, None if ready else seconds))
            write_rows(rows, f"{zoo.name}, {name}")
            shown = [r for r in rows if r["measure"] in ("P@1", "rank correlation")]
            told = ", ".join(f"{r['question']} {r['value']:.3f}" for r in shown)
            print(f"{name}: {seconds:.3f} s a subject; {told}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", choices=["13", "29"], default="29")
    parser.add_argument("--methods", nargs="+", help="names, or what stands before their comma; default: the cheap")
    parser.add_argument("--page", action="store_true", help="write docs/referee.md from what was measured")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    return parser.parse_args()


def open_zoo(shared: Path, size: str, cache: Path) -> Zoo:
    learnable, tried = task_lists(shared)
    everything = [read_task(shared, manifest(shared)[t]) for t in dict.fromkeys([*learnable, *tried])]
    tasks = everything[:29] if size == "29" else [t for t in everything if t.id in FEWER]
    surrogate = load_surrogate(SurrogateConfig(), HERE)
    store = Store(cache)
    features = store.cached_features(surrogate.id, partial(compute_features, surrogate))
    pool = real_pool(shared, "loose", 0, everything)
    with threadpool_limits(1):
        train_zoos(tasks, {0: pool}, features, store, surrogate.width, Stopwatch())
    return Zoo(f"{size} tasks", tasks, pool, features, store, surrogate.width, cache)


def measured(zoo: Zoo, name: str, answer: Answer, seconds: float | None) -> Iterator[dict[str, object]]:
    """A row for each question and measure that the method has an answer to."""
    of_model = zoo.of_task
    families = np.unique([t.family for t in zoo.tasks], return_inverse=True)[1]
    same, related = of_model[:, None] == of_model, families[of_model][:, None] == families[of_model]
    architecture = np.arange(len(of_model)) % len(ARCHITECTURES)
    itself, other = np.eye(len(of_model), dtype=bool), architecture[:, None] != architecture
    tasks = np.arange(len(zoo.tasks))
    to_model, to_related = tasks[:, None] == of_model, families[:, None] == families[of_model]
    to_dataset = None if answer.dataset_model is None else answer.dataset_model.T
    apart = answer.apart
    asked: list[Asked] = [
        ("dataset to model", answer.dataset_model, to_model, to_related, None, tasks),
        ("model to dataset", to_dataset, to_model.T, to_related.T, None, of_model),
        ("model to model", answer.model_model, same, related, ~itself, of_model),
        ("model to other architecture", answer.model_model, same, related, other, of_model),
        ("model to model, no common row", apart, same, related, None, of_model),
        ("model to other architecture, no common row", apart, same, related, other, of_model),
    ]

    def row(question: str, measure: str, value: float, low: float, high: float, n: int) -> dict[str, object]:
        return {
            "zoo": zoo.name, "method": name, "reads": answer.reads, "question": question, "measure": measure,
            "value": value, "low": low, "high": high, "n": n, "seconds": seconds,
        }  # fmt: skip

    for question, similar, relevant, near, allowed, task in asked:
        if similar is None:
            continue
        for measure, truth in (("P@1", relevant), ("P@1 of the family", near), ("MAP", relevant)):
            each = [
                retrieval(similar[q : q + 1], truth[q : q + 1], None if allowed is None else allowed[q : q + 1])
                for q in range(len(similar))
            ]
            values = np.array([one.map if measure == "MAP" else one.p_at_1 for one in each])
            by_task = np.array([values[task == t].mean() for t in tasks])  # queries of one task stand or fall together
            yield row(question, measure, *interval(by_task), len(values))
    ranked = answer.dataset_model if answer.accuracy is None else answer.accuracy
    if ranked is None:
        return
    truth = zoo.matched.truth
    for question, without in (("accuracy", False), ("accuracy, without the task's own models", True)):
        rho, regret = np.full(len(tasks), np.nan), np.zeros(len(tasks))
        for t in tasks:
            of = of_model != t if without else np.ones(len(of_model), bool)
            by, true = ranked[t, of], truth[t, of]
            rho[t] = spearmanr(by, true).statistic if np.ptp(by) > 0 else 0.0
            regret[t] = true.max() - true[np.flatnonzero(by == by.max())].mean()
        yield row(question, "rank correlation", *interval(rho), len(tasks))
        yield row(question, "regret", *interval(regret), len(tasks))


if __name__ == "__main__":
    main()
