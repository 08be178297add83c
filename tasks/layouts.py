"""How a space is laid out on a page: made once for its subjects, then found in the store's cache."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.fingerprint import fingerprint
from fute.report.types import Projection, Tree
from fute.unify.frame import FRAME_VERSION, Frame, similarities
from storage.nearest import placed_vectors
from storage.store import Store
from storage.vectors import StoredEmbedding

LAYOUT_VERSION = 2  # raised when the same embeddings would be laid out otherwise

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Layout:
    """What is computed from the embeddings of a space for its page; rows in the order of the population.

    Attributes:
        similarities: (n, n) cosines of the embeddings in the frame.
        projections: its maps.
        tree: its dendrogram.
    """

    similarities: NDArray[np.float32]
    projections: list[Projection]
    tree: Tree


def layout_of(store: Store, space: str, population: Sequence[StoredEmbedding], frame: Frame | None) -> Layout:
    """The layout of a space, from the cache where it is of these embeddings."""
    members = [e.fingerprint for e in population]
    key = fingerprint(members=members, frame=None if frame is None else FRAME_VERSION, version=LAYOUT_VERSION)

    def compute() -> Arrays:
        from fute.report.layout import cluster_tree, projections  # scikit-learn, which a kept layout does without

        similarity = similarities(placed_vectors(population, frame))
        return _packed(Layout(similarity, projections(similarity), cluster_tree(similarity)))

    return _unpacked(store.cached_arrays("layouts", space, key, compute))


def _packed(layout: Layout) -> Arrays:
    told = [
        {"name": p.name, "kept": list(p.kept.items()), "trust": p.trust, "variance": p.variance}
        for p in layout.projections
    ]
    return {
        "similarities": layout.similarities,
        "places": np.stack([p.places for p in layout.projections]),  # (maps, n, 2)
        "projections": np.array(json.dumps(told)),
        "order": np.array(layout.tree.order, np.int64),
        "merges": np.array(layout.tree.merges, np.float64).reshape(-1, 3),
    }


def _unpacked(arrays: Mapping[str, NDArray[Any]]) -> Layout:
    told = json.loads(arrays["projections"].item())
    found = [
        Projection(p["name"], places, dict(p["kept"]), p["trust"], p["variance"])
        for p, places in zip(told, arrays["places"], strict=True)
    ]
    merges = tuple((int(a), int(b), float(height)) for a, b, height in arrays["merges"])
    return Layout(arrays["similarities"], found, Tree(tuple(arrays["order"].tolist()), merges))
