"""What `fute match` says of files with a frequent label: accuracy and balanced accuracy, ranked by either.

    OMP_NUM_THREADS=1 python benchmarks/match_uneven.py     # about six minutes, once match.py has run

The models, files and truths of match.py, seed 0, of tasks of at most 20 labels, with all labels but the most frequent
thinned until that one has 0.9 or 0.95 of a file. A model's own balanced accuracy is counted on all texts kept aside:
recalls do not depend on how frequent a label is.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from command import as_run, write_record
from match import HERE, all_answers
from numpy.typing import NDArray
from population import model_refs
from real_tasks import manifest, read_task, real_pool, split_rows, task_lists
from retrieval import compute
from threadpoolctl import threadpool_limits
from zoo import ARCHITECTURES

from fute.config import SurrogateConfig
from fute.match.accuracy import alike, better_than_chance, judge, matched
from fute.match.kernel import TextKernel
from fute.match.readout import read_out
from fute.surrogate.load import load_surrogate
from storage.stamp import code_version
from storage.store import Store
from tasks.match import LEAST_AGREEMENT

SHARES = (None, 0.9, 0.95)
"""Of the most frequent label; None: as the task has it."""
SEED, MOST_LABELS = 0, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--out", type=Path, default=HERE / "results/match_uneven.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    learnable, tried = task_lists(shared)
    tasks = [read_task(shared, manifest(shared)[t]) for t in dict.fromkeys([*learnable, *tried])]
    surrogate = load_surrogate(SurrogateConfig(device="cpu"), HERE)
    store = Store(options.cache)
    features = store.cached_features(surrogate.id, partial(compute, surrogate))
    pool = real_pool(shared, "loose", SEED, tasks)
    asked = all_answers(tasks, SEED, features, surrogate.width, options.cache / "match")
    files: dict[str, list[dict[str, NDArray[Any]]]] = {}
    with threadpool_limits(1):
        kernel = TextKernel(pool.inputs, features(pool.inputs))
        reads = read_out(
            kernel.pool, [store.outputs(pool.id, ref) for t in tasks for ref in model_refs(t, SEED, "main")]
        )
        known = [m for m, read in enumerate(reads) if read.agreement >= LEAST_AGREEMENT]
        for j, task in enumerate(tasks):
            n_labels = int(task.labels.max()) + 1
            if n_labels > MOST_LABELS:
                continue
            rows = split_rows(task, SEED)
            labels, kept = task.labels[rows.dataset], task.labels[rows.held_out]
            texts = kernel.texts(task.inputs.take(rows.dataset), features(task.inputs)[rows.dataset])
            said = {m: reads[m].answers(texts).argmax(axis=1) for m in known}
            for share in SHARES:
                file = thinned(labels, share, np.random.default_rng([SEED, j]))
                found = []
                for m in known:
                    own = asked(m // len(ARCHITECTURES), m % len(ARCHITECTURES), j)
                    classes = max(reads[m].weights.shape[1], int(own.max()) + 1)
                    told = judge(said[m][file], labels[file], classes, n_labels, reads[m].agreement)
                    values = alike(np.bincount(labels[file], minlength=n_labels))
                    meaning, _ = matched(own[: len(labels)][file], labels[file], classes, n_labels, values)
                    weights = (values > 0)[kept] * alike(np.bincount(kept, minlength=n_labels))[kept]
                    truth = float(weights @ (meaning[own[len(labels) :]] == kept) / weights.sum())
                    found.append((
                        m // len(ARCHITECTURES) == j, told.accuracy.expected, told.balanced.expected, truth,
                        told.balanced.chance, told.balanced.low <= truth <= told.balanced.high,
                        told.accuracy.surely_above_chance(len(known)),
                        better_than_chance([told.accuracy, told.balanced], len(known)),
                        told.balanced.high - told.balanced.low,
                    ))  # fmt: skip
                names = "own", "accuracy", "balanced", "truth", "chance", "held", "by_accuracy", "better", "width"
                files.setdefault(f"{share or 'as they are'}, half {j % 2}", []).append(
                    {name: np.array(column) for name, column in zip(names, zip(*found, strict=True), strict=True)}
                )
    results = {name: summarise(of) for name, of in files.items()}
    for name, values in results.items():
        print(f"{name:<22}" + "  ".join(f"{k} {v:.3f}" for k, v in values.items()))
    record = {"command": as_run(__file__), "git_commit": code_version(), "results": results}
    write_record(record, options.out)


def thinned(labels: NDArray[np.int64], share: float | None, rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows of which the most frequent label has this share, or more where it has."""
    frequent = labels == np.bincount(labels).argmax()
    rest = np.flatnonzero(~frequent)
    wanted = len(rest) if share is None else max(1, round(frequent.sum() * (1 - share) / share))
    return np.sort(np.concatenate([np.flatnonzero(frequent), rng.permutation(rest)[:wanted]]))


def summarise(files: list[dict[str, NDArray[Any]]]) -> dict[str, float]:
    joined = {name: np.concatenate([f[name] for f in files]) for name in files[0]}
    better = joined["better"]
    # As `fute match` lists them: the better ones first, and these by balanced accuracy where accuracies are equal.
    shipped = [f["better"] * (10 + 1e-4 * f["balanced"]) + f["accuracy"] for f in files]
    regrets = {
        name: float(np.mean([f["truth"].max() - f["truth"][by.argmax()] for f, by in zip(files, rank, strict=True)]))
        for name, rank in (
            ("accuracy", [f["accuracy"] for f in files]),
            ("shipped", shipped),
            ("balanced", [f["balanced"] for f in files]),
        )
    }
    return {
        "files": len(files),
        "error": float(np.abs(joined["balanced"] - joined["truth"]).mean()),
        "held": float(joined["held"].mean()),
        "held_own": float(joined["held"][joined["own"]].mean()),
        "width": float(joined["width"].mean()),
        "own_better_by_accuracy": float(joined["by_accuracy"][joined["own"]].mean()),
        "own_better": float(better[joined["own"]].mean()),
        "better_wrongly": float((joined["truth"] <= joined["chance"] + 0.02)[better].mean()) if better.any() else 0.0,
        **{f"regret_by_{name}": value for name, value in regrets.items()},
    }


if __name__ == "__main__":
    main()
