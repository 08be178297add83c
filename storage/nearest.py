"""The nearest subjects of one, and near duplicates, in a space's own frame: everything is compared, block by block.

Made for up to 20,000 subjects in a space: no run ranks more, for a ranking compares all with all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fute.did_you_mean import did_you_mean
from fute.errors import NotInStoreError, StoreError
from fute.types import Floats, Kind
from fute.unify.frame import Chance, Frame, score, verdict
from fute.unify.neighbors import COSINE_DIGITS, SCORE_DIGITS
from storage.accuracies import accuracies
from storage.retirements import retired
from storage.store import Store
from storage.vectors import StoredEmbedding, VectorStore

BLOCK = 2048  # subjects

NEAREST = pa.schema(
    [
        pa.field("space", pa.string()),
        pa.field("method", pa.string()),
        pa.field("candidate_kind", pa.string()),
        pa.field("rank", pa.int32()),
        pa.field("candidate", pa.string()),
        pa.field("expected_accuracy", pa.float64()),
        pa.field("accuracy_low", pa.float64()),
        pa.field("accuracy_high", pa.float64()),
        pa.field("accuracy_unknown", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("p_value", pa.float64()),
        pa.field("verdict", pa.string()),
        pa.field("similarity", pa.float32()),
    ]
)

ACCURACY = ("expected_accuracy", "accuracy_low", "accuracy_high", "accuracy_unknown")


def placed_vectors(population: Sequence[StoredEmbedding], frame: Frame | None) -> Floats:
    """(n, dim) unit vectors of the population in its space's frame; as the method made them where it has none."""
    vectors = np.stack([e.vector for e in population])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if frame is None else frame.place(vectors)


def nearest(
    store: Store, subject: str, k: int = 10, space: str | None = None, kind: Kind | None = None
) -> list[dict[str, Any]]:
    """The k nearest datasets and the k nearest models of a subject, in every space that holds it.

    Args:
        kind: what the subject is, where a dataset and a model share the name; candidates are of both kinds.

    Returns:
        Rows like those of the macro `nearest`: space, method, candidate_kind, rank, candidate, of a dataset and a
        model how often the model will be right on it, score, p_value, verdict and similarity. Subjects that were
        embedded since the last ranking have a similarity only, and come last.

    Raises:
        NotInStoreError: no space holds it, or there is no such space.
        StoreError: it is a dataset's name and a model's, and no kind is given.
    """
    vectors = VectorStore(store)
    spaces = _methods(vectors, space)
    found = {space_id: _nearest_in(vectors, space_id, subject, k, kind) for space_id in spaces}
    if len({of_kind for by_kind in found.values() for of_kind in by_kind}) > 1:
        raise StoreError(
            f"a dataset and a model are called {subject!r}; say which with --kind (kind= in Python): candidates of "
            "both kinds are shown either way"
        )
    if not any(found.values()):
        if any(name == subject for _, name in retired(store.root)):
            raise NotInStoreError(f"{subject!r} was retired; `fute retire --undo {subject}` has it ranked again")
        there = {e.subject for space_id in spaces for e in vectors.population(space_id)}
        if subject in there:
            raise NotInStoreError(
                f"no embedding of {subject!r} as a {kind}, only as a {'model' if kind == 'dataset' else 'dataset'}; "
                "--kind (kind= in Python) says what it is, and candidates of both kinds are shown"
            )
        near = did_you_mean(subject, sorted(there))
        told = near or "; `fute ls embeddings` lists what there is"
        raise NotInStoreError(f"no embedding of {subject!r} in {store.root}{told}")
    return [
        {"space": space_id, "method": spaces[space_id], **row}
        for space_id, by_kind in found.items()
        for rows in by_kind.values()
        for row in rows
    ]


def _methods(vectors: VectorStore, space: str | None) -> dict[str, str]:
    """The method of each space, or of one. Raises NotInStoreError: there is no such space."""
    methods = {row["space"]: row["method"] for row in vectors.spaces()}
    if space is None:
        return methods
    if space not in methods:
        told = did_you_mean(space, methods) or "; `fute ls spaces` lists what there is"
        raise NotInStoreError(f"no space {space} in {vectors.root}{told}")
    return {space: methods[space]}


def _nearest_in(
    vectors: VectorStore, space: str, subject: str, k: int, kind: Kind | None
) -> dict[Kind, list[dict[str, Any]]]:
    """Of one space, by kind of the subject; empty where the subject is not in it."""
    population = vectors.population(space)
    named = [i for i, e in enumerate(population) if e.subject == subject and kind in (None, e.kind)]
    return {population[i].kind: _nearest_of(vectors, space, population, i, k) for i in named}


def _nearest_of(
    vectors: VectorStore, space: str, population: Sequence[StoredEmbedding], own: int, k: int
) -> list[dict[str, Any]]:
    frame = vectors.ranked_frame(space)
    query = placed_vectors(population[own : own + 1], frame)[0]
    cosines = np.concatenate([block @ query for block in _blocks(population, frame)])
    chance = None if frame is None else vectors.chance(space, population)
    scores = np.full(len(population), np.nan) if chance is None else _scores(population, own, cosines, chance)
    unscored = np.isnan(scores)  # these come after the others, by similarity
    places = np.where(unscored, cosines, scores).round(COSINE_DIGITS if chance is None else SCORE_DIGITS)
    judged = accuracies(vectors.store, vectors.space(space))
    others = (i for i in range(len(population)) if i != own)
    best = sorted(others, key=lambda i: (unscored[i], -places[i], population[i].subject))
    rows = []
    for kind in get_args(Kind):
        here = [i for i in best if population[i].kind == kind]
        for rank, i in enumerate(here[:k], start=1):
            dataset, model = (own, i) if kind == "model" else (i, own)
            of_both = population[dataset].ref, population[model].ref
            accuracy = judged.get(of_both, {}) if kind != population[own].kind else {}
            told = None if np.isnan(scores[i]) else float(scores[i])
            p = None
            if told is not None and frame is not None:
                metrics = (population[own].metrics, population[i].metrics)
                p = frame.p_value(told, (population[own].kind, kind), len(here), metrics)
            rows.append(
                {
                    "candidate_kind": kind,
                    "rank": rank,
                    "candidate": population[i].subject,
                    **{name: accuracy.get(name) for name in ACCURACY},
                    "score": None if told is None else max(0.0, told),
                    "p_value": p,
                    "verdict": verdict(p),
                    "similarity": float(cosines[i]),
                }
            )
    return rows


def _scores(
    population: Sequence[StoredEmbedding], own: int, cosines: NDArray[np.floating], chance: Chance
) -> NDArray[np.float64]:
    """(n,) of one subject with all."""
    means, deviations = (
        np.array([chance.of[e.kind][i][own] for e in population]) for i in (0, 1)
    )  # its own scale for each one's kind
    theirs = chance.of[population[own].kind]
    return score(cosines, (means, deviations), theirs)


def near_duplicates(store: Store, space: str, threshold: float, kind: Kind = "model") -> list[tuple[str, str, float]]:
    """Pairs of one kind whose cosine in the space's frame is at least the threshold, the closest first.

    Every pair is compared: all vectors are held in memory, and time grows with the square of their number.

    Raises:
        NotInStoreError: there is no such space.
    """
    vectors = VectorStore(store)
    _methods(vectors, space)
    population = [e for e in vectors.population(space) if e.kind == kind]
    if not population:
        return []
    placed = placed_vectors(population, vectors.ranked_frame(space))
    pairs: list[tuple[str, str, float]] = []
    for start in range(0, len(placed), BLOCK):
        cosines = placed[start : start + BLOCK] @ placed[start:].T
        for row, column in np.argwhere(cosines >= threshold):
            if column > row:
                a, b = sorted((population[start + row].subject, population[start + column].subject))
                pairs.append((a, b, float(cosines[row, column])))
    return sorted(pairs, key=lambda pair: (-round(pair[2], COSINE_DIGITS), pair[0], pair[1]))


def _blocks(population: Sequence[StoredEmbedding], frame: Frame | None) -> Iterator[Floats]:
    for start in range(0, len(population), BLOCK):
        yield placed_vectors(population[start : start + BLOCK], frame)
