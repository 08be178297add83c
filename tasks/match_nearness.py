"""How near a target is to the models of a space, where that costs no training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from fute.config import Method
from fute.errors import MethodError
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.types import Dataset, Features, Kind, Pool, TaskEmbedding
from fute.unify.frame import FRAME_VERSION, Frame, embed_pseudo_tasks, verdict
from storage.nearest import placed_vectors
from storage.store import Store
from storage.vectors import StoredEmbedding

TOO_FEW = "too few texts to tell"


def own_embedding(space: Mapping[str, Any], features: Features, pool: Pool, dataset: Dataset) -> TaskEmbedding:
    """The target's embedding.

    Raises:
        MethodError: the space's method would have to be trained for it, or the labels have nothing to do with the
            texts.
    """
    return _crosscov(space, features, pool).dataset(dataset)


def nearness(
    store: Store, space: Mapping[str, Any], models: Sequence[StoredEmbedding], features: Features, own: TaskEmbedding
) -> dict[str, dict[str, Any]]:
    """Model to score, p_value and verdict (TOO_FEW where the texts are); empty where the space has no frame."""
    pool = store.pool(space["pool"])
    made = store.cached_arrays(
        "pseudo",
        space["space"],
        str(FRAME_VERSION),
        lambda: embed_pseudo_tasks(_crosscov(space, features, pool), features, pool, space["seed"]) or {},
    )
    if not made:
        return {}
    frame = Frame.of(**made)
    placed = np.concatenate([frame.place([own.vector]), placed_vectors(models, frame)])
    kinds: list[Kind] = ["dataset", *(e.kind for e in models)]
    scores = frame.chance(placed).scores(placed[:1] @ placed.T, kinds)[0, 1:]
    found = {}
    for model, score in zip(models, scores.tolist(), strict=True):
        p, of_score = (
            frame.p_value(score, ("dataset", "model"), len(models), (metrics, model.metrics))
            for metrics in (own.metrics, {})
        )
        # Near by its score, and of so few texts that their labels might lie so by chance.
        told = verdict(p) if verdict(p) == verdict(of_score) else TOO_FEW
        found[model.subject] = {"score": max(0.0, score), "p_value": p, "verdict": told}
    return found


def _crosscov(space: Mapping[str, Any], features: Features, pool: Pool) -> Crosscov:
    method: Method = TypeAdapter(Method).validate_python(json.loads(space["settings"])["method"])
    if not isinstance(method, CrosscovConfig):
        raise MethodError(
            f"space {space['space']} is of {method.method}, which would have to be trained for a new dataset: name a "
            "space of crosscov (--space), or put the file into a study"
        )
    return Crosscov(method, features, pool)
