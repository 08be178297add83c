"""Which stored models answer what another one does with their labels in another order: `fute show MODEL`."""

from __future__ import annotations

from typing import Any

from fute.match.accuracy import named_alike
from fute.match.turned import SURE, only_numbered, other_order
from storage.store import Store
from storage.vectors import StoredEmbedding, VectorStore


def turned_against(store: Store, model: str) -> list[dict[str, Any]]:
    """Models of its pools whose classes are called like this one's and go with others of them, surest first.

    Outputs are read of those alone that are called alike. Where classes have numbers for names, of those alone that the
    study says are of the same task.
    """
    found: dict[str, dict[str, Any]] = {}
    vectors = VectorStore(store)
    by_pool: dict[str, dict[str, StoredEmbedding]] = {}
    for space in vectors.spaces():
        models = {e.subject: e for e in vectors.population(space["space"]) if e.kind == "model"}
        by_pool.setdefault(space["pool"], {}).update(models)
    for pool, models in by_pool.items():
        refs, tasks = {i: e.ref for i, e in models.items()}, {i: e.row["task"] for i, e in models.items()}
        classes = {name: store.outputs_classes(pool, ref) for name, ref in refs.items()}
        own = classes.get(model)
        if own is None:
            continue
        ours = store.outputs(pool, refs[model])
        for name, theirs in classes.items():
            if name == model or name in found or theirs is None or named_alike(own, theirs) is None:
                continue
            if only_numbered(own) and (tasks[model] is None or tasks[model] != tasks[name]):
                continue
            other = other_order(ours, store.outputs(pool, refs[name]))
            if other is not None and other.probability >= SURE:
                turned = {mine: its for mine, its in other.stands_for.items() if mine.casefold() != its.casefold()}
                found[name] = {"model": name, "probability": round(other.probability, 3), "stands_for": turned}
    return sorted(found.values(), key=lambda each: -each["probability"])
