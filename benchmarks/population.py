"""One seed's subjects: models trained and asked, datasets and models embedded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from baselines import BagOfWords
from numpy.typing import NDArray
from real_tasks import Rows, Task, labelled_rows, split_rows
from sklearn.preprocessing import normalize
from zoo import ARCHITECTURES, fit_all, read_inputs

from fute.data.sampling import generator
from fute.fingerprint import fingerprint
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.types import UNRELATED, Dataset, Features, Floats, Kind, Outputs, Pool, TextTable
from fute.unify.frame import Frame, embed_pseudo_tasks, score
from storage.stamp import Stamp
from storage.store import Store

LEARNED_MARGIN = 0.05  # accuracy above the majority class from which a model counts as having learned
ZOOS = "main", "on other rows"
ZOO_VERSION = 1  # raised when the same rows would give other models
WORTH_TELLING = 5.0  # seconds


class Stopwatch:
    """Seconds of each stage, summed over seeds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        passed = time.perf_counter() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + passed
        if passed > WORTH_TELLING:
            print(f"  {name}: {passed:.1f} s", flush=True)


@dataclass(frozen=True, eq=False)
class Vectors:
    """As the method made them: datasets (t, dim), models (t x architectures, dim), task after task."""

    datasets: Floats
    models: Floats

    def of(self, tasks: Sequence[int]) -> Vectors:
        each = len(ARCHITECTURES)
        return Vectors(self.datasets[list(tasks)], self.models[[t * each + a for t in tasks for a in range(each)]])

    def placed(self, frame: Frame) -> Vectors:
        return Vectors(frame.place(self.datasets), frame.place(self.models))


def scores(frame: Frame, one: Floats, kind: Kind, other: Floats, other_kind: Kind) -> NDArray[np.float64]:
    """(n, m) scores of placed subjects of one kind with placed subjects of another."""
    rows, columns = frame.chance(one).of[other_kind], frame.chance(other).of[kind]
    cosines = one @ other.T
    return score(cosines, (rows[0][:, None], rows[1][:, None]), (columns[0][None], columns[1][None]))


@dataclass(frozen=True, eq=False)
class Population:
    """All subjects of one seed.

    Attributes:
        other_rows: the same datasets with a second zoo, trained on the rows of the datasets, so on none of the first
            zoo's: models of a task that share no training row.
        frames: of the space with all layers, and of that with the last one.
        shuffled: each model's outputs permuted within the pool's sources, embedded: they say nothing about any text.
        unrelated: (models,) p-values of the shuffled: that their outputs have nothing to do with the texts.
        learned: (models,) whether each beats the majority class by LEARNED_MARGIN on rows kept aside.
    """

    vectors: Vectors
    last_layer: Vectors
    words: Vectors
    other_rows: Vectors
    frames: tuple[Frame, Frame]
    shuffled: Floats
    unrelated: NDArray[np.float64]
    learned: NDArray[np.bool_]
    accuracies: dict[str, dict[str, float]]


def train_zoos(
    tasks: Sequence[Task], pools: dict[int, Pool], features: Features, store: Store, width: int, watch: Stopwatch
) -> None:
    """Every model's answers on its seed's pool, into the store; its accuracy goes along."""

    def last_layer(inputs: TextTable) -> Floats:
        return normalize(features(inputs)[:, -width:])

    with watch.stage("counting words"):
        read_pools = {seed: read_inputs(pool.inputs, last_layer(pool.inputs)) for seed, pool in pools.items()}
    for task in tasks:
        missing = [s for s in pools if not all(store.has_outputs(pools[s].id, r) for r in model_refs(task, s, *ZOOS))]
        if not missing:
            continue
        with watch.stage("counting words"):
            inputs = read_inputs(task.inputs, last_layer(task.inputs))
        for seed in missing:
            rows = split_rows(task, seed)
            held_out, truth = inputs.take(rows.held_out), task.labels[rows.held_out]
            majority = float(np.bincount(truth).max() / len(truth))
            for zoo, trained_on in zip(ZOOS, (rows.model, rows.dataset), strict=True):
                accuracies = []
                with watch.stage("training and asking models"):
                    models = fit_all(inputs.take(trained_on), task.labels[trained_on])
                    for ref, model in zip(model_refs(task, seed, zoo), models, strict=True):
                        accuracies.append(model.accuracy(held_out, truth))
                        answers = model.probabilities(read_pools[seed])
                        details = {"accuracy": accuracies[-1], "majority": majority}
                        outputs = Outputs("probabilities", answers, details=details)
                        store.put_outputs(pools[seed].id, ref, outputs, Stamp())
                if zoo == ZOOS[0]:
                    told = ", ".join(f"{n} {a:.2f}" for n, a in zip(ARCHITECTURES, accuracies, strict=True))
                    print(f"  {task.id}, seed {seed}: accuracy {told}, majority {majority:.2f}", flush=True)


def model_refs(task: Task, seed: int, *zoos: str) -> list[str]:
    keys = [fingerprint(zoo=[zoo, ZOO_VERSION], dataset=task.dataset.fingerprint, seed=seed) for zoo in zoos]
    return [f"{name}/{task.id}@{key}" for key in keys for name in ARCHITECTURES]


def embed(
    tasks: Sequence[Task], pool: Pool, seed: int, features: Features, store: Store, width: int, watch: Stopwatch
) -> Population:
    """Vectors of every dataset and model of a seed, with all layers, with the last one, and of words."""
    rows = [split_rows(task, seed) for task in tasks]
    outputs, others = (
        [[store.outputs(pool.id, ref) for ref in model_refs(task, seed, zoo)] for task in tasks] for zoo in ZOOS
    )
    parts = PartFeatures(features, pool)
    spaces, frames = {}, []
    for name, columns in (("all", slice(None)), ("last", slice(-width, None))):
        with watch.stage("embedding" if name == "all" else "embedding, last layer"):
            read = partial(parts.read, columns)
            embedder = Crosscov(CrosscovConfig(), read, pool)
            vectors = embed_pseudo_tasks(embedder, read, pool, seed)
            if vectors is None:
                raise SystemExit("the pool has no pseudo-tasks")
            frames.append(Frame.of(**vectors))
            datasets = [embedder.dataset(parts.part(t, r)).vector for t, r in zip(tasks, rows, strict=True)]
            models = [embedder.model(answers).vector for group in outputs for answers in group]
            spaces[name] = Vectors(np.stack(datasets), np.stack(models))
            if name == "all":
                strangers = [embedder.model(answers).vector for group in others for answers in group]
                other_rows = Vectors(np.stack(datasets), np.stack(strangers))
                mixed = [embedder.model(shuffled(o, pool, seed)) for group in outputs for o in group]
    with watch.stage("bag of words"):
        words = BagOfWords(pool.inputs)
        centroids = [words.dataset(t.inputs.take(r.dataset)) for t, r in zip(tasks, rows, strict=True)]
        counted = Vectors(np.stack(centroids), np.stack([words.model(o) for group in outputs for o in group]))
    details = [o.details for group in outputs for o in group]
    learned = np.array([d["accuracy"] > d["majority"] + LEARNED_MARGIN for d in details])
    accuracies = {
        task.id: {"majority": group[0].details["majority"]}
        | {name: o.details["accuracy"] for name, o in zip(ARCHITECTURES, group, strict=True)}
        for task, group in zip(tasks, outputs, strict=True)
    }
    return Population(
        spaces["all"], spaces["last"], counted, other_rows, (frames[0], frames[1]),
        np.stack([m.vector for m in mixed]), np.array([m.metrics[UNRELATED] for m in mixed]), learned, accuracies,
    )  # fmt: skip


def shuffled(outputs: Outputs, pool: Pool, seed: int) -> Outputs:
    """The rows of each source in another order."""
    draw = generator(seed, "shuffled", outputs.fingerprint)
    sources = np.unique(np.asarray(pool.source_ids), return_inverse=True)[1]
    order = np.argsort(sources, kind="stable")
    values = np.empty_like(outputs.values)
    values[order] = outputs.values[np.lexsort((draw.random(len(sources)), sources))]
    return replace(outputs, values=values)


class PartFeatures:
    """Features of a part of a task's rows, looked up among those of all its rows."""

    def __init__(self, features: Features, pool: Pool) -> None:
        self._features = features
        self._known: dict[str, Floats] = {pool.inputs.fingerprint: features(pool.inputs)}

    def know(self, inputs: TextTable, values: Floats) -> None:
        self._known[inputs.fingerprint] = values

    def part(self, task: Task, rows: Rows) -> Dataset:
        dataset = labelled_rows(task, rows.dataset)
        key = dataset.train.inputs.fingerprint
        if key not in self._known:
            self._known[key] = self._features(task.inputs)[rows.dataset]
        return dataset

    def read(self, columns: slice, inputs: TextTable) -> Floats:
        return self._known[inputs.fingerprint][:, columns]
