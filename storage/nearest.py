"""The nearest subjects of one, and near duplicates, in a space's own frame: everything is compared, block by block.

Made for up to 20,000 subjects in a space: no run ranks more, for a ranking compares all with all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np

from fute.errors import NotInStoreError
from fute.types import Floats, Kind
from fute.unify.frame import Reference, unify
from storage.store import Store
from storage.vectors import StoredEmbedding, VectorStore

BLOCK = 2048  # subjects


def unified_vectors(population: Sequence[StoredEmbedding], reference: Reference) -> Floats:
    """(n, dim) the population in one frame."""
    return unify([e.vector for e in population], [e.group for e in population], reference)


def nearest(store: Store, subject: str, k: int = 10, space: str | None = None) -> list[dict[str, Any]]:
    """The k nearest datasets and the k nearest models of a subject, in every space that holds it.

    Returns:
        Rows like those of the macro `nearest`: space, method, candidate_kind, rank, candidate, score (cosine after the
        space's reference is removed) and reference.

    Raises:
        NotInStoreError: no space holds it, or there is no such space.
    """
    vectors = VectorStore(store)
    spaces = {row["space"]: row["method"] for row in vectors.spaces() if space in (None, row["space"])}
    if space is not None and not spaces:
        raise NotInStoreError(f"no space {space} in {store.root}; `fute ls spaces` lists what there is")
    found = {space_id: _nearest_in(vectors, space_id, subject, k) for space_id in spaces}
    if all(rows is None for rows in found.values()):
        raise NotInStoreError(f"no embedding of {subject!r} in {store.root}; `fute ls embeddings` lists what there is")
    return [{"space": space_id, "method": spaces[space_id], **row} for space_id, rows in found.items()
            for row in rows or ()]  # fmt: skip


def _nearest_in(vectors: VectorStore, space: str, subject: str, k: int) -> list[dict[str, Any]] | None:
    """Of one space; None: the subject is not in it."""
    population = vectors.population(space)
    own = next((i for i, e in enumerate(population) if e.subject == subject), None)
    if own is None:
        return None
    reference = vectors.reference(space)
    query = unified_vectors(population[own : own + 1], reference)[0]
    scores = np.concatenate([block @ query for block in _blocks(population, reference)])
    best = sorted((i for i in range(len(population)) if i != own), key=lambda i: (-scores[i], population[i].subject))
    return [
        {"candidate_kind": kind, "rank": rank, "candidate": population[i].subject, "score": float(scores[i]),
         "reference": reference.describe()}
        for kind in get_args(Kind)
        for rank, i in enumerate([i for i in best if population[i].kind == kind][:k], start=1)
    ]  # fmt: skip


def near_duplicates(store: Store, space: str, threshold: float, kind: Kind = "model") -> list[tuple[str, str, float]]:
    """Pairs of one kind whose cosine in the space's frame is at least the threshold, the closest first.

    Every pair is compared: all vectors are held in memory, and time grows with the square of their number.
    """
    vectors = VectorStore(store)
    population = [e for e in vectors.population(space) if e.kind == kind]
    if not population:
        return []
    unified = unified_vectors(population, vectors.reference(space))
    pairs: list[tuple[str, str, float]] = []
    for start in range(0, len(unified), BLOCK):
        scores = unified[start : start + BLOCK] @ unified[start:].T
        for row, column in np.argwhere(scores >= threshold):
            if column > row:
                a, b = sorted((population[start + row].subject, population[start + column].subject))
                pairs.append((a, b, float(scores[row, column])))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def _blocks(population: Sequence[StoredEmbedding], reference: Reference) -> Iterator[Floats]:
    for start in range(0, len(population), BLOCK):
        yield unified_vectors(population[start : start + BLOCK], reference)
