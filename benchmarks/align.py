"""Do a surrogate's vectors find the right ones in another surrogate's space? retrieval.py's 29 tasks, seed 0.

    OMP_NUM_THREADS=1 python benchmarks/align.py --encoder FOLDER

FOLDER: a second encoder, with its tokenizer and weights; of it only the pool's features are computed (a CPU takes ten
minutes for all-mpnet-base-v2), so it has models and no datasets. Beside it stand the embedded MiniLM cut to its first
three layers, and LSA of the pool's TF-IDF with fewer and fewer axes, down to what sees little.

Subjects of space a are mapped into space b and ranked among b's own: datasets among models, models among datasets, and
models among models that share no training row with them. The rival is an orthogonal map (Procrustes) fitted on vectors
that both spaces have: of the pool's pseudo-tasks, or of these and of all tasks but those that are asked about.

Needs the shared data, as retrieval.py does; features and answers are kept in its --cache.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from claims_measures import interval
from command import as_run, write_record
from numpy.typing import NDArray
from population import Stopwatch, model_refs, scores, train_zoos
from real_tasks import Task, labelled_rows, manifest, read_task, real_pool, split_rows, task_lists
from retrieval import compute
from threadpoolctl import threadpool_limits
from zoo import ARCHITECTURES

from fute.align import Alignment, map_of, mapped
from fute.config import SurrogateConfig
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.methods.crosscov.whitening import Doubles, centred_within, source_groups
from fute.surrogate.load import load_surrogate
from fute.surrogate.source import EMBEDDED_NAME, find_source
from fute.types import Features, Floats, Kind, Outputs, Pool, TextTable
from fute.unify.frame import Frame, embed_pseudo_tasks
from storage.stamp import code_version
from storage.store import Store

HERE = Path(__file__).parent
SEED, ROWS, FOLDS = 0, 200, 5  # rows of a dataset
LSA_AXES = (400, 100, 50, 25, 12)
MINILM, CUT, ENCODER = "MiniLM", "MiniLM, 3 of its 6 layers", "second encoder"
DIRECTIONS: dict[str, tuple[Kind, Kind]] = {
    "dataset to model": ("dataset", "model"),
    "model to dataset": ("model", "dataset"),
    "model to model": ("model", "model"),
}
Subjects = dict[Kind, Floats]
Found = dict[str, NDArray[np.bool_]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, help="folder of a second encoder")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--out", type=Path, default=HERE / "results/align.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    learnable, tried = task_lists(shared)
    chosen = [*learnable, *(t for t in tried if t not in learnable)]
    everything = [read_task(shared, manifest(shared)[t]) for t in chosen]
    store = Store(options.cache)
    zoo = Zoo(everything[: len(learnable)], real_pool(shared, "loose", SEED, everything), store)
    results = []
    with threadpool_limits(1):
        spaces = zoo.spaces(options.encoder)
        home = next(spaces)
        for space in spaces:
            results.append(zoo.measure(space, home, rival=space.name in (CUT, ENCODER, f"LSA, {LSA_AXES[0]} axes")))
            if space.name in (CUT, ENCODER, f"LSA, {LSA_AXES[0]} axes"):
                results.append(zoo.measure(home, space, rival=False))
            record = {
                "command": as_run(__file__), "git_commit": code_version(), "tasks": [t.id for t in zoo.tasks],
                "pool": {"id": zoo.pool.id, "rows": len(zoo.pool)}, "dataset_rows": ROWS,
                "encoder": _name(options.encoder), "results": results,
            }  # fmt: skip
            write_record(record, options.out)


def _name(encoder: Path | None) -> dict[str, str] | None:
    return (
        None if encoder is None else {"name": encoder.name, "revision": find_source(str(encoder), None, HERE).revision}
    )


@dataclass(eq=False)
class Space:
    """A surrogate's space over the pool. `datasets`: whether it has features of the tasks' texts."""

    name: str
    read: Features
    pool: Pool
    datasets: bool = True
    embedder: Crosscov = field(init=False)
    z: Doubles = field(init=False)
    subjects: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.embedder = Crosscov(CrosscovConfig(), self.read, self.pool)
        groups = source_groups(np.asarray(self.pool.source_ids))
        self.z = centred_within(self.embedder.whitening.apply(self.read(self.pool.inputs)), groups)


class Zoo:
    """t tasks, three models of each, and three others of each that share no training row with them."""

    def __init__(self, tasks: list[Task], pool: Pool, store: Store) -> None:
        self.tasks, self.pool, self.store = tasks, pool, store
        self.rows = [split_rows(t, SEED).dataset[:ROWS] for t in tasks]
        self.parts = [labelled_rows(t, r) for t, r in zip(tasks, self.rows, strict=True)]
        self.of_model = np.repeat(np.arange(len(tasks)), len(ARCHITECTURES))

    def spaces(self, encoder: Path | None) -> Any:
        minilm = load_surrogate(SurrogateConfig(), HERE)
        whole = self.store.cached_features(minilm.id, partial(compute, minilm))
        train_zoos(self.tasks, {SEED: self.pool}, whole, self.store, minilm.width, Stopwatch())
        known = {self.pool.inputs.fingerprint: whole(self.pool.inputs)}
        for task, rows, part in zip(self.tasks, self.rows, self.parts, strict=True):
            known[part.train.inputs.fingerprint] = whole(task.inputs)[rows]
        yield Space(MINILM, lambda table: known[table.fingerprint], self.pool)
        if encoder is not None:
            loaded = load_surrogate(SurrogateConfig(model=str(encoder)), HERE)
            yield Space(
                ENCODER, self.store.cached_features(loaded.id, partial(compute, loaded)), self.pool, datasets=False
            )
        with tempfile.TemporaryDirectory() as folder:
            cut = load_surrogate(SurrogateConfig(model=str(first_layers(Path(folder), 3))), HERE)
            yield Space(CUT, self.store.cached_features(cut.id, partial(compute, cut)), self.pool)
        for axes in LSA_AXES:
            yield Space(f"LSA, {axes} axes", lsa(self.pool, axes), self.pool)

    def subjects(self, space: Space) -> dict[str, Floats]:
        if not space.subjects:

            def models(which: str) -> Floats:
                refs = [r for t in self.tasks for r in model_refs(t, SEED, which)]
                answers: list[Outputs] = [self.store.outputs(self.pool.id, r) for r in refs]
                return np.stack([space.embedder.model(o).vector for o in answers])

            space.subjects = {"model": models("main"), "others": models("on other rows")}
            if space.datasets:
                space.subjects["dataset"] = np.stack([space.embedder.dataset(p).vector for p in self.parts])
        return space.subjects

    def measure(self, a: Space, b: Space, *, rival: bool) -> dict[str, Any]:
        started = time.perf_counter()
        own, theirs = self.subjects(b), self.subjects(a)
        tasks_b, tasks_a = (embed_pseudo_tasks(s.embedder, b.read, self.pool, SEED) for s in (b, a))
        if tasks_a is None or tasks_b is None or len(tasks_a["models"]) != len(tasks_b["models"]):
            return {"from": a.name, "into": b.name, "axes": [a.z.shape[1], b.z.shape[1]], "refused": "no pseudo-tasks"}
        frame, matrix = Frame.of(**tasks_b), map_of(a.z, b.z)
        alignment = Alignment.of(matrix, frame, {k: mapped(matrix, v) for k, v in tasks_a.items()})
        moved = {kind: mapped(matrix, vectors) for kind, vectors in theirs.items()}
        placed = {kind: frame.place(vectors) for kind, vectors in own.items()}
        there = {kind: alignment.mapped.place(vectors) for kind, vectors in moved.items()}
        found = self.first(there, placed, alignment.scores)
        within = self.first(placed, placed, lambda x, kind, y, other: scores(frame, x, kind, y, other))
        result: dict[str, Any] = {
            "from": a.name, "into": b.name, "axes": [a.z.shape[1], b.z.shape[1]],
            "fidelity": alignment.fidelity,
            "pseudo_first": [alignment.mapped.own_first["dataset", "model"],
                             alignment.mapped.own_first["model", "dataset"]],
            "within b": told(within), "aligned": told(found),
            "kept": kept(found, within), "kept_by_half": [kept(_half(found, h), _half(within, h)) for h in (0, 1)],
            "itself_first": float(
                (scores(frame, there["model"], "model", placed["model"], "model").argmax(axis=1)
                 == np.arange(len(placed["model"]))).mean()
            ),
        }  # fmt: skip
        if rival:
            before = Frame.of(**tasks_a)
            start = {kind: before.place(vectors) for kind, vectors in theirs.items()}
            for name, with_tasks in (("pseudo-tasks", False), ("pseudo-tasks and other tasks", True)):
                turned = self.procrustes(start, placed, before, frame, with_tasks=with_tasks)
                ranked = self.first(turned, placed, lambda x, kind, y, other: scores(frame, x, kind, y, other))
                result[f"Procrustes on {name}"] = told(ranked)
        result["seconds"] = round(time.perf_counter() - started, 1)
        print(json.dumps(result), flush=True)
        return result

    def first(
        self, queries: Any, candidates: Any, similar: Callable[[Floats, Kind, Floats, Kind], NDArray[np.floating]]
    ) -> Found:
        """By direction, whether what stands first for each query is of its task; (tasks, queries of each)."""
        of: dict[str, NDArray[np.intp]] = {"dataset": np.arange(len(self.tasks)), "model": self.of_model}
        found: Found = {}
        for name, (kind, other) in DIRECTIONS.items():
            there = "others" if kind == other else other
            if kind not in queries or there not in candidates:
                continue
            best = similar(queries[kind], kind, candidates[there], other).argmax(axis=1)
            found[name] = (of[other][best] == of[kind]).reshape(len(self.tasks), -1)
        return found

    def procrustes(self, start: Any, aim: Any, before: Frame, frame: Frame, *, with_tasks: bool) -> dict[str, Floats]:
        kinds = [kind for kind in ("dataset", "model") if kind in start]
        shared = [k for k in kinds if k in aim]
        turned = {kind: np.zeros((len(start[kind]), len(frame.mean)), np.float32) for kind in kinds}
        fold = np.random.default_rng(SEED).permutation(len(self.tasks)) % FOLDS
        for k in range(FOLDS if with_tasks else 1):
            out = fold == k if with_tasks else np.ones(len(self.tasks), bool)
            left_out = {"dataset": out, "model": out[self.of_model]}
            a, b = [before.pseudo["dataset"], before.pseudo["model"]], [frame.pseudo["dataset"], frame.pseudo["model"]]
            if with_tasks:
                a += [start[kind][~left_out[kind]] for kind in shared]
                b += [aim[kind][~left_out[kind]] for kind in shared]
            turn = orthogonal(np.concatenate(a), np.concatenate(b))
            for kind in kinds:
                moved = turn(start[kind][left_out[kind]])
                turned[kind][left_out[kind]] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        return turned


def orthogonal(a: Floats, b: Floats) -> Callable[[Floats], Floats]:
    """The orthogonal map of a's span onto b's that brings rows of a nearest to rows of b, without (dim, dim) arrays."""
    qa, ra = np.linalg.qr(a.T)
    qb, rb = np.linalg.qr(b.T)
    left, _, right = np.linalg.svd(ra @ rb.T)
    return lambda x: ((x @ qa) @ left @ right) @ qb.T


def lsa(pool: Pool, axes: int) -> Features:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counted = TfidfVectorizer(sublinear_tf=True, min_df=2)
    reduced = TruncatedSVD(axes, random_state=SEED).fit(counted.fit_transform(pool.inputs.joined()))

    def features(table: TextTable) -> Floats:
        return reduced.transform(counted.transform(table.joined())).astype(np.float32)

    return features


def first_layers(folder: Path, layers: int) -> Path:
    """The embedded model without its later layers."""
    from safetensors.torch import load_file, save_file

    source = Path(find_source(EMBEDDED_NAME, None, HERE).location)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(source / name, folder / name)
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    weights = load_file(source / "model.safetensors")
    numbers = {name: re.search(r"layer\.(\d+)\.", name) for name in weights}
    kept = {name: weights[name] for name, number in numbers.items() if number is None or int(number[1]) < layers}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def told(found: Found) -> dict[str, list[float]]:
    """Share of first places with its 95 % interval over tasks."""
    return {name: list(interval(hits.mean(axis=1))) for name, hits in found.items()}


def kept(found: Found, within: Found) -> float | None:
    """What is found as a share of what b itself finds, over all directions that both have."""
    both = [name for name in found if name in within]
    return float(np.mean([found[n].mean() / within[n].mean() for n in both])) if both else None


def _half(found: Found, half: int) -> Found:
    return {name: hits[half::2] for name, hits in found.items()}


if __name__ == "__main__":
    main()
