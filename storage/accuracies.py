"""Expected accuracies in the store: how often each model of a space will be right on each of its labelled datasets.

They follow from pool, surrogate, outputs and labels, whatever the method: spaces of one pool and surrogate share them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fute.fingerprint import fingerprint
from fute.match.accuracy import Accuracy, better_than_chance
from storage import schemas
from storage.files import read_parquet, write_parquet
from storage.parts import files_of
from storage.stamp import Stamp
from storage.store import Store, to_json
from storage.vectors import StoredEmbedding, VectorStore

# Raised when the same outputs and labels would be judged otherwise.
ACCURACY_VERSION = 2

Pair = tuple[str, str]
"""References of a dataset and a model."""


def _shared(space: Mapping[str, Any]) -> dict[str, Any]:
    """What spaces have in common whose accuracies are the same, from a row of `spaces`."""
    settings = to_json({"surrogate": json.loads(space["settings"] or "{}").get("surrogate")})
    return {**{name: space[name] for name in ("pool", "surrogate", "revision")}, "settings": settings}


def _folder(store: Store, space: Mapping[str, Any]) -> Path:
    return store.root / "accuracies" / fingerprint(**_shared(space), version=ACCURACY_VERSION)


def accuracies(store: Store, space: Mapping[str, Any]) -> dict[Pair, dict[str, Any]]:
    """What is known, by dataset and model; empty in a store of an earlier version."""
    rows = [row for path in files_of(_folder(store, space)) for row in read_parquet(path).to_pylist()]
    return {(row["dataset"], row["model"]): row for row in rows}


def put_accuracies(store: Store, space: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], stamp: Stamp) -> None:
    """Write rows as one file, named by their pairs: two runs at once make the same."""
    whole = [{**_shared(space), **row} for row in rows]
    columns = {f.name: pa.array([row.get(f.name) for row in whole], f.type) for f in schemas.ACCURACIES}
    table = pa.table({**columns, **stamp.columns(len(whole))}, schema=schemas.ACCURACIES)
    key = fingerprint(pairs=sorted([row["dataset"], row["model"]] for row in whole))
    write_parquet(store.scratch, _folder(store, space) / f"{key}.parquet", table)


def missing_accuracies(
    store: Store, space: Mapping[str, Any], population: Sequence[StoredEmbedding]
) -> list[tuple[StoredEmbedding, list[StoredEmbedding]]]:
    """Datasets with classes of a space, each with the models whose accuracy on it is not in the store."""
    known, population = accuracies(store, space), [e for e in population if not e.imported]
    models = [e for e in population if e.kind == "model"]
    datasets = [e for e in population if e.kind == "dataset" and e.row["subject_kind"] == "classification"]
    left = [(d, [m for m in models if (d.ref, m.ref) not in known]) for d in datasets]
    return [(dataset, unjudged) for dataset, unjudged in left if unjudged]


def accuracy_of(row: Mapping[str, Any]) -> Accuracy | None:
    """Of a stored row; None where it is unknown."""
    if row["expected_accuracy"] is None:
        return None
    return Accuracy(row["expected_accuracy"], row["accuracy_low"], row["accuracy_high"], row["majority"])


def better(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Of the models of one dataset the ones that surely are better than giving all texts the same label."""
    known = {model: accuracy for model, row in rows.items() if (accuracy := accuracy_of(row)) is not None}

    def measures(model: str) -> list[Accuracy]:
        told = [rows[model][f"balanced_{name}"] for name in ("accuracy", "low", "high", "chance")]
        return [known[model]] if told[0] is None else [known[model], Accuracy(*told)]

    return [model for model in known if better_than_chance(measures(model), len(known))]


def accuracy_metrics(store: Store, spaces: Sequence[str]) -> dict[str, float]:
    """For MLflow: what the model that will be right most often on each dataset will reach."""
    best: dict[str, dict[str, Any]] = {}
    vectors = VectorStore(store)
    for space in map(vectors.space, spaces[:1]):
        counted = {e.ref for e in vectors.population(space["space"])}
        for (dataset, model), row in accuracies(store, space).items():
            share, name = row["expected_accuracy"], dataset.rpartition("@")[0]
            if share is None or not {dataset, model} <= counted:
                continue
            if name not in best or share > best[name]["expected_accuracy"]:
                best[name] = row
    return {
        f"{measure}/{''.join(c if c.isalnum() or c in '_-./ ' else '_' for c in name)}": row[measure]
        for name, row in best.items()
        for measure in ("expected_accuracy", "accuracy_low", "accuracy_high")
    }
