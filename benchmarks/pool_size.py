"""How many rows, from how many sources, does a pool need? retrieval.py's 29 tasks on smaller pools.

    python benchmarks/pool_size.py

Needs the shared data, as retrieval.py does; features and answers are kept in its --cache.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from command import as_run, write_record
from numpy.typing import NDArray
from population import PartFeatures, Stopwatch, model_refs, scores, train_zoos
from real_tasks import EVERYTHING, Task, manifest, read_task, real_pool, split_rows, task_lists
from retrieval import compute
from small_zoos import verdicts
from threadpoolctl import threadpool_limits
from zoo import ARCHITECTURES

from fute.config import PoolConfig, SurrogateConfig
from fute.data.pool import build_pool
from fute.data.sampling import generator
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.surrogate.load import load_surrogate
from fute.types import Features, Outputs, Pool
from fute.unify.frame import Frame, embed_pseudo_tasks
from storage.stamp import code_version
from storage.store import Store

HERE = Path(__file__).parent
ROWS = (60, 100, 300, 1000, EVERYTHING)  # of the pool of 204 sources
SOURCES = {1: 1000, 3: 1000, 12: 250}  # sources, and rows of each
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--out", type=Path, default=HERE / "results/pool_size.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    learnable, tried = task_lists(shared)
    everything = [
        read_task(shared, manifest(shared)[t]) for t in [*learnable, *(t for t in tried if t not in learnable)]
    ]
    tasks = everything[: len(learnable)]
    surrogate = load_surrogate(SurrogateConfig(), HERE)
    store = Store(options.cache)
    features = store.cached_features(surrogate.id, partial(compute, surrogate))
    whole = real_pool(shared, "loose", SEED, everything)
    found = []
    with threadpool_limits(1):
        train_zoos(tasks, {SEED: whole}, features, store, surrogate.width, Stopwatch())
        for rows in ROWS:
            kept = np.sort(generator(SEED, "rows of the pool").permutation(len(whole))[:rows])
            found.append(measured(tasks, whole, kept, features, store))
        for sources, rows in SOURCES.items():
            pool = few_sources(shared, sources, rows, everything)
            train_zoos(tasks, {SEED: pool}, features, store, surrogate.width, Stopwatch())
            found.append(measured(tasks, pool, np.arange(len(pool)), features, store))
    record = {"command": as_run(__file__), "git_commit": code_version(), "results": found}
    write_record(record, options.out)


def few_sources(shared: Path, sources: int, rows: int, tasks: Sequence[Task]) -> Pool:
    """The first of the sources in a seeded order that have so many rows."""
    files = sorted((shared / "data/unlabeled").glob("*.parquet"))
    config = PoolConfig.model_validate(
        {
            "sources": [
                {"data": {"files": f"unlabeled/{files[i].name}"}, "text_pair": "text_pair"}
                for i in generator(SEED, "sources of the pool").permutation(len(files))[:sources]
            ],
            "rows_per_source": rows,
            "max_rows": sources * rows,
        }
    )
    return build_pool(config, shared / "data", SEED, [task.dataset for task in tasks])


def measured(
    tasks: Sequence[Task], whole: Pool, kept: NDArray[np.intp], features: Features, store: Store
) -> dict[str, Any]:
    pool = Pool(whole.inputs.take(kept), [whole.source_ids[i] for i in kept])
    parts = PartFeatures(features, whole)
    parts.know(pool.inputs, features(whole.inputs)[kept])
    read = partial(parts.read, slice(None))
    embedder = Crosscov(CrosscovConfig(), read, pool)
    vectors = embed_pseudo_tasks(embedder, read, pool, SEED)
    if vectors is None:
        raise SystemExit("the pool has no pseudo-tasks")
    frame = Frame.of(**vectors)
    outputs: list[Outputs] = [
        store.outputs(whole.id, ref).take(kept) for t in tasks for ref in model_refs(t, SEED, "main")
    ]
    datasets = frame.place([embedder.dataset(parts.part(t, split_rows(t, SEED))).vector for t in tasks])
    models = frame.place([embedder.model(o).vector for o in outputs])
    found = scores(frame, datasets, "dataset", models, "model")
    own = np.repeat(np.arange(len(tasks)), len(ARCHITECTURES))
    none = np.zeros((len(tasks), 0))
    result = {
        "rows": len(pool),
        "sources": len(set(pool.source_ids)),
        "axes": embedder.whitening.projection.shape[1],
        "dataset to model": float((own[found.argmax(axis=1)] == np.arange(len(tasks))).mean()),
        "model to dataset": float((found.argmax(axis=0) == own).mean()),
        "pseudo-tasks that find their own model first": frame.own_first["dataset", "model"],
        "verdicts": verdicts(found, [t.family for t in tasks], frame.nulls, none, none[0]),
    }
    print({k: round(v, 3) if isinstance(v, float) else v for k, v in result.items() if k != "verdicts"}, flush=True)
    for what, shares in result["verdicts"].items():
        print(f"    {what:<44}" + ", ".join(f"{name} {share:.2f}" for name, share in shares.items()), flush=True)
    return result


if __name__ == "__main__":
    main()
