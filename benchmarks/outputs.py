"""Without a surrogate: what method outputs finds from answers alone, beside crosscov on the same answers.

    OMP_NUM_THREADS=1 python benchmarks/outputs.py

The referee's zoo of 29 tasks (benchmarks/referee.py): 87 models, and as many of the same tasks that share no training
row with them. Needs the shared data and the answers in --cache.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from claims_measures import interval
from command import as_run, write_record
from numpy.typing import NDArray
from population import scores, shuffled
from referee import open_zoo
from referee_methods import Zoo, embedded
from retrieval_measures import retrieval
from rivals.cka import debiased_cka
from threadpoolctl import threadpool_limits
from zoo import ARCHITECTURES

from fute.methods.outputs.config import OutputsConfig
from fute.methods.outputs.embed import OutputsAlone
from fute.surrogate.vectors import NONE, vector_features
from fute.types import Floats
from fute.unify.frame import Frame, embed_pseudo_tasks, verdict
from storage.stamp import code_version

HERE = Path(__file__).parent
DIMS = (32_768, 131_072, 524_288)
Doubles = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--out", type=Path, default=HERE / "results/outputs.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    zoo = open_zoo(shared, "29", options.cache)
    with threadpool_limits(1):
        crosscov = embedded("crosscov", in_frame=True)(zoo)
        said = [o.values.astype(np.float64) for o in [*zoo.outputs, *zoo.strangers]]
        plain = debiased_cka(said[: len(zoo.outputs)], said[len(zoo.outputs) :])
        reference = by_task(zoo, crosscov.apart)
        found: dict[str, Any] = {
            "crosscov, scores": told(reference, None),
            "debiased CKA of outputs, neither whitened nor centred within sources": told(
                by_task(zoo, plain), reference
            ),
        }
        for dim in DIMS:
            found |= measure(zoo, dim, reference)
    record = {"models": len(zoo.outputs), "pool": len(zoo.pool), "results": found}
    write_record({"command": as_run(__file__), "git_commit": code_version(), **record}, options.out)


def measure(zoo: Zoo, dim: int, reference: dict[str, Doubles]) -> dict[str, Any]:
    """Cosines and scores of one length of vectors, and what is said to fit."""
    started = time.perf_counter()
    embedder = OutputsAlone(OutputsConfig(dim=dim), zoo.pool)
    main, others = (np.stack([embedder.model(o).vector for o in group]) for group in (zoo.outputs, zoo.strangers))
    seconds = (time.perf_counter() - started) / (len(main) + len(others))
    made = embed_pseudo_tasks(embedder, vector_features(NONE, HERE, zoo.pool), zoo.pool, 0)
    assert made is not None
    frame = Frame.of(**made)
    own, apart = frame.place(main), frame.place(others)
    scored = scores(frame, own, "model", apart, "model")
    noise = frame.place(np.stack([embedder.model(shuffled(o, zoo.pool, 0)).vector for o in zoo.outputs]))
    families = np.unique([t.family for t in zoo.tasks], return_inverse=True)[1][zoo.of_task]
    foreign = families[:, None] != families
    verdicts = {
        "all candidates": fits(frame, scored, np.ones_like(foreign)),
        "candidates of other families alone": fits(frame, scored, foreign),
        "shuffled outputs, all candidates": fits(
            frame, scores(frame, noise, "model", apart, "model"), np.ones_like(foreign)
        ),
    }
    print(f"dim {dim}: {seconds:.2f} s a model, own tasks first {frame.own_first}", flush=True)
    return {
        f"outputs of {dim} numbers, cosines": told(by_task(zoo, (main @ others.T).astype(np.float64)), reference),
        f"outputs of {dim} numbers, scores": {
            **told(by_task(zoo, scored), reference),
            "verdicts": verdicts,
            "a dataset of pool rows finds its model first": frame.own_first["dataset", "model"],
            "pseudo-tasks": frame.tasks,
            "seconds a model": seconds,
        },
    }


def fits(frame: Frame, scored: Doubles, allowed: NDArray[np.bool_]) -> dict[str, float]:
    """Shares of the models whose best allowed candidate fits, or may fit."""
    best = np.where(allowed, scored, -np.inf).max(axis=1)
    told = [
        verdict(frame.p_value(float(b), ("model", "model"), int(n), ({}, {})))
        for b, n in zip(best, allowed.sum(axis=1), strict=True)
    ]
    return {name: told.count(name) / len(told) for name in ("fits", "may fit")}


def by_task(zoo: Zoo, apart: Floats | Doubles | None) -> dict[str, Doubles]:
    """(tasks,) how often each task's models find their like first among those without a common row."""
    assert apart is not None
    of = zoo.of_task
    families = np.unique([t.family for t in zoo.tasks], return_inverse=True)[1][of]
    architecture = np.arange(len(of)) % len(ARCHITECTURES)
    other = architecture[:, None] != architecture
    asked = {
        "same task": (of[:, None] == of, None),
        "same family": (families[:, None] == families, None),
        "same task, other architecture": (of[:, None] == of, other),
        "same family, other architecture": (families[:, None] == families, other),
    }
    found = {}
    for name, (relevant, allowed) in asked.items():
        first = [
            retrieval(apart[q : q + 1], relevant[q : q + 1], None if allowed is None else allowed[q : q + 1]).p_at_1
            for q in range(len(of))
        ]
        found[name] = np.array([np.mean(np.array(first)[of == t]) for t in range(len(zoo.tasks))])
    return found


def told(found: dict[str, Doubles], reference: dict[str, Doubles] | None) -> dict[str, Any]:
    """Means over the tasks with 95 % intervals, tasks resampled; and what is ahead of crosscov, task by task."""
    lines: dict[str, Any] = {name: interval(values) for name, values in found.items()}
    if reference is not None:
        lines["ahead of crosscov"] = {name: interval(found[name] - reference[name]) for name in found}
    print(", ".join(f"{name} {value[0]:.2f}" for name, value in lines.items() if name in found), flush=True)
    return lines


if __name__ == "__main__":
    main()
