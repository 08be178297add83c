"""Texts of single classes, and what every model of the zoo really answers on them: kept, for by_class.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from real_tasks import EVERYTHING, SPLITS, Task, manifest, read_task, split_rows
from sklearn.preprocessing import normalize
from zoo import ARCHITECTURES, fit_all, read_inputs

from fute.data.sampling import generator
from fute.fingerprint import fingerprint
from fute.types import Features, Floats, TextTable

VERSION = 1
CLASSES, EXAMPLES, KEPT = 6, 20, 60
"""Of a task, drawn; labelled texts of each, and texts of each that the truth is counted on."""
FEWEST_KEPT = 20


@dataclass(frozen=True, eq=False)
class Target:
    """Classes of one task.

    Attributes:
        of: (n,) class of each text, by its place in `names`.
        pairs: (a, b) of classes that are to be told apart.
    """

    task: Task
    names: tuple[str, ...]
    inputs: TextTable
    of: NDArray[np.int64]
    pairs: tuple[tuple[int, int], ...]


def read_target(shared: Path, task: Task, seed: int, most: int = CLASSES) -> Target | None:
    """Texts on which no model of the task was trained; None where it has no three classes with enough of them."""
    everything = read_task(shared, manifest(shared)[task.id], max_rows=EVERYTHING, splits=SPLITS).dataset
    trained = task.inputs.take(split_rows(task, seed).model)
    seen = set(zip(trained.texts, trained.pairs or [None] * len(trained), strict=True))
    texts: dict[tuple[str, str | None], int] = {}
    for split in everything.splits.values():
        rows = zip(split.inputs.texts, split.inputs.pairs or [None] * len(split), split.targets.tolist(), strict=True)
        texts.update({(text, pair): label for text, pair, label in rows if (text, pair) not in seen})
    labels = np.array(list(texts.values()))
    often = np.bincount(labels)
    enough = np.flatnonzero(often >= EXAMPLES + FEWEST_KEPT)
    draw = generator(seed, "classes", task.id)
    classes = np.sort(draw.permutation(enough)[:most])
    if len(often) < 3 or len(classes) < 2:
        return None
    rows = [draw.permutation(np.flatnonzero(labels == c))[: EXAMPLES + KEPT] for c in classes]
    keys = list(texts)
    chosen = [keys[i] for of in rows for i in of]
    pairs = [pair for _, pair in chosen]
    names = everything.label_names or ()
    return Target(
        task,
        tuple(names[c] for c in classes),
        TextTable([text for text, _ in chosen], pairs if any(pairs) else None),
        np.repeat(np.arange(len(classes)), [len(of) for of in rows]),
        tuple((i, (i + 1) % len(classes)) for i in range(len(classes) if len(classes) > 2 else 1)),
    )


def all_answers(
    tasks: Sequence[Task], texts: TextTable, seed: int, features: Features, width: int, cache: Path
) -> list[Floats]:
    """(n, c) probabilities of each model, task after task, for the classes that it was trained on."""
    cache.mkdir(parents=True, exist_ok=True)
    keys = [fingerprint(v=VERSION, d=t.dataset.fingerprint, seed=seed, texts=texts.fingerprint) for t in tasks]
    read = None
    found = []
    for task, key in zip(tasks, keys, strict=True):
        rows = split_rows(task, seed).model
        file = cache / f"{key}.npz"
        if not file.is_file():
            read = read or read_inputs(texts, normalize(features(texts)[:, -width:]))
            own = read_inputs(task.inputs, normalize(features(task.inputs)[:, -width:]))
            answers = {}
            for model in fit_all(own.take(rows), task.labels[rows]):
                whole = np.zeros((len(texts), int(task.labels.max()) + 1), np.float16)
                whole[:, model.estimator.classes_] = model.probabilities(read)
                answers[model.architecture] = whole
            np.savez(file, **answers)
            print(f"  {task.id}, seed {seed}: its models were asked", flush=True)
        opened = np.load(file)
        trained = np.unique(task.labels[rows])
        found += [opened[name][:, trained].astype(np.float32) for name in ARCHITECTURES]
    return found
