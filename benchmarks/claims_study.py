"""What benchmarks/claims.py ranks with: the tasks, their pool, and vectors of datasets and source models in a space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache as once
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from claims_measures import Doubles
from population import PartFeatures
from population import scores as frame_scores
from quality import METHODS, KeptVectors, _embedder, frame_of
from real_tasks import Task, labelled_rows, manifest, read_task, real_pool, split_rows, task_lists
from sklearn.preprocessing import normalize
from source_models import SourceModel, pool_outputs, read_source_models
from transfer import MAX_ROWS, SOURCES, TARGETS

from fute.config import SurrogateConfig
from fute.surrogate.features import compute_features
from fute.surrogate.load import load_surrogate
from fute.types import Features, Floats, Pool
from fute.unify.frame import Frame
from storage.store import Store

HERE = Path(__file__).parent
PLAIN, MEMBERS, FRAME = "no reference", "members' reference", "frame"
"""Verdicts rest on the first, the cosine of the vectors as they are: that is what the paper compares."""


class Study:
    """The tasks, their pool and what is kept of them."""

    def __init__(self, shared: Path, cache: Path) -> None:
        entries = manifest(shared)
        learnable, tried = task_lists(shared)
        self.everything = [read_task(shared, entries[name]) for name in dict.fromkeys([*learnable, *tried])]
        by_id = {task.id: task for task in self.everything}
        self.cache = cache
        self.tasks: list[Task] = [by_id.get(i) or read_task(shared, entries[i]) for i in SOURCES]
        self.targets = [self.tasks[SOURCES.index(i)] for i in TARGETS]
        self.target_rows = [SOURCES.index(i) for i in TARGETS]
        self.pool: Pool = real_pool(shared, "loose", 0, self.everything)
        self._with_tests = partial(read_task, shared, max_rows=MAX_ROWS, splits=("train", "test"))
        self._entries = entries
        self._store = Store(cache)

    def models(self, layers: int | None) -> list[SourceModel]:
        tasks = [self._with_tests(self._entries[i]) for i in SOURCES]
        return read_source_models(tasks, layers, self.cache / "transfer")

    def features(self, surrogate: SurrogateConfig) -> Features:
        plain = load_surrogate(surrogate, HERE)
        return self._store.cached_features(plain.id, partial(compute_features, plain))


class Space:
    """A method over a surrogate: vectors of the tasks as datasets and of source models, made when asked for."""

    def __init__(self, study: Study, name: str, surrogate: SurrogateConfig) -> None:
        self._study, self._whole = study, name == "crosscov"  # which reads features, and not texts
        config = surrogate.model_copy(update={"dtype": "float32" if self._whole else "auto"})
        self._kept = KeptVectors(study.cache / "quality", METHODS[name], config, study.pool, 0)
        self._parts = PartFeatures(study.features(surrogate), study.pool)
        self._read = partial(self._parts.read, slice(None))
        self._embedder = once(partial(_embedder, METHODS[name], config, self._read, study.pool, 0))

    @cached_property
    def datasets(self) -> Floats:
        return np.stack([self._dataset(task, None) for task in self._study.tasks])

    def targets_of(self, rows: int) -> Floats:
        """The targets as datasets of so few rows."""
        return np.stack([self._dataset(task, rows) for task in self._study.targets])

    def models(self, models: Sequence[SourceModel]) -> Floats:
        found = []
        for model in models:
            outputs = pool_outputs(model, self._study.pool, self._study.cache / "source models")
            found.append(
                self._kept.get(f"source model {model.key}", lambda o=outputs: self._embedder().model(o).vector)
            )
        print(f"{self._kept.seconds / max(self._kept.asked, 1):.2f} s a subject", flush=True)
        return np.stack(found)

    def frame(self) -> Frame:
        return frame_of(self._kept, self._embedder, self._read, self._study.pool, 0)

    def _dataset(self, task: Task, few: int | None) -> Floats:
        rows = split_rows(task, 0)
        rows = replace(rows, dataset=rows.dataset[:few])
        part = partial(self._parts.part, task, rows) if self._whole else partial(labelled_rows, task, rows.dataset)
        name = f"{task.id}, split 0" + ("" if few is None else f", {few} rows")
        return self._kept.get(name, lambda: self._embedder().dataset(part()).vector)


def of_datasets(space: Space, method: str, targets: Sequence[int]) -> dict[str, Doubles]:
    """By reference, (tasks, targets), of embeddings of datasets alone."""
    own = space.datasets
    found = {PLAIN: cosines(own, own[targets]), MEMBERS: cosines(centred(own), centred(own)[targets])}
    if method == "crosscov":  # a frame of a trained method is 48 more trainings
        placed = space.frame().place(own)
        found[FRAME] = frame_scores(space.frame(), placed, "dataset", placed[targets], "dataset")
    return found


def of_source_models(space: Space, method: str, models: Floats, targets: Sequence[int]) -> dict[str, Doubles]:
    """By reference, (models, targets)."""
    datasets = space.datasets
    found = {PLAIN: cosines(models, datasets[targets]), MEMBERS: cosines(centred(models), centred(datasets)[targets])}
    if method == "crosscov":
        frame = space.frame()
        found[FRAME] = frame_scores(frame, frame.place(models), "model", frame.place(datasets[targets]), "dataset")
    return found


def cosines(sources: Floats, targets: Floats) -> Doubles:
    return np.asarray(normalize(sources) @ normalize(targets).T, dtype=np.float64)


def centred(vectors: Floats) -> Floats:
    """Each at unit length, less the mean of its kind among those that are ranked."""
    unit = normalize(vectors)
    return unit - unit.mean(axis=0)
