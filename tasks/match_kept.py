"""A target and what was found of it, kept in the store: `fute match FILE --keep ID`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fute.errors import DataError
from fute.json_text import json_text
from fute.space import embedding_id
from fute.types import Dataset, TaskEmbedding
from storage.accuracies import put_accuracies
from storage.retirements import bring_back
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import StoredEmbedding, VectorStore
from tasks.match_target import Labelled
from tasks.matched import Matched


def keep_target(
    store: Store,
    space: Mapping[str, Any],
    population: Sequence[StoredEmbedding],
    dataset: Dataset,
    own: TaskEmbedding,
    judged: Sequence[Matched],
    labelled: Labelled,
) -> None:
    """Make the target a dataset of the store and of the space, and write how often each model will be right on it.

    Raises:
        DataError: the space has another dataset of this id.
    """
    there = {e.subject: e.row["subject_fingerprint"] for e in population if e.kind == "dataset"}
    if there.get(dataset.id, dataset.fingerprint) != dataset.fingerprint:
        raise DataError(f"the store has another dataset {dataset.id!r}; keep this one by another id")
    stamp = Stamp()
    ref = store.put_dataset(dataset, family=None, stamp=stamp)
    row = {
        **{name: space[name] for name in ("space", "method", "surrogate", "revision", "pool", "seed", "settings")},
        "kind": "dataset",
        "subject": dataset.id,
        "subject_fingerprint": dataset.fingerprint,
        "subject_kind": dataset.task,
        "task": dataset.id,
        "fingerprint": embedding_id(space["space"], "dataset", dataset.id, dataset.fingerprint),
    }
    VectorStore(store).put(row, own, stamp)
    bring_back(store, [("dataset", dataset.id)], stamp)
    refs = {e.subject: e.ref for e in population if e.kind == "model"}
    put_accuracies(store, space, [accuracy_row(ref, refs[m.model], m, labelled) for m in judged], stamp)


def accuracy_row(dataset: str, model: str, found: Matched, target: Labelled) -> dict[str, Any]:
    """A row of `accuracies`.

    Args:
        dataset, model: references.
    """
    return {
        "dataset": dataset,
        "model": model,
        "expected_accuracy": found.accuracy and found.accuracy.expected,
        "accuracy_low": found.accuracy and found.accuracy.low,
        "accuracy_high": found.accuracy and found.accuracy.high,
        "accuracy_unknown": found.unknown,
        "balanced_accuracy": found.balanced and found.balanced.expected,
        "balanced_low": found.balanced and found.balanced.low,
        "balanced_high": found.balanced and found.balanced.high,
        "balanced_chance": found.balanced and found.balanced.chance,
        "most_frequent": target.most_frequent,
        "majority": target.majority,
        "texts": len(target.split),
        "split": target.part,
        "agreement": found.agreement,
        "meaning": json_text(found.meaning),
        "turned": found.turned,
    }
