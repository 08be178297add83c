"""What the map of a space is made of: plain data, checked on creation, with no reference to a store or a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fute.types import Kind

SIMILARITY_SLACK = 1e-3  # float32 dot products of unit vectors leave [-1, 1] by rounding alone


class Neighbor(NamedTuple):
    """A subject near another one. `score` is the similarity; the interval is None where none was computed."""

    id: str
    kind: Kind
    score: float
    ci_low: float | None = None
    ci_high: float | None = None


class Failure(NamedTuple):
    """A model that is not on the map, and why."""

    id: str
    reason: str


class Command(NamedTuple):
    """A command to try next, and what it is for."""

    purpose: str
    command: str


@dataclass(frozen=True, kw_only=True)
class SubjectPoint:
    """One dataset or model of the space.

    Attributes:
        type: a dataset's task type (classification ...) or a model's kind (transformers, prompt ...).
        family: group of related tasks, where known.
        task: id of the dataset that a model was trained or written for, where known.
        score: held-out score, named by `score_name` (accuracy ...).
        x, y: place on the map, any unit, the same on both axes.
        nearest: nearest first. A dataset lists models; a model lists datasets and models.
    """

    id: str
    kind: Kind
    type: str
    x: float
    y: float
    family: str | None = None
    task: str | None = None
    score: float | None = None
    score_name: str | None = None
    nearest: Sequence[Neighbor] = ()

    def __post_init__(self) -> None:
        numbers: list[float | None] = [self.x, self.y, self.score]
        for neighbor in self.nearest:
            numbers += neighbor[2:]
        bad = [number for number in numbers if number is not None and not math.isfinite(number)]
        if bad:
            raise ValueError(
                f"{self.kind} {self.id!r} has {bad[0]} among its numbers; give None where a value is missing"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class MapData:
    """Everything that the map shows.

    Attributes:
        subtitle: the space in words: surrogate, method, pool.
        created_at: shown in UTC; a time without a zone is taken as UTC.
        similarities: (n, n), cosine similarity of subjects, in the order of `subjects`.
        order: the n rows in the order in which the heat map shows them (`fute.report.layout.cluster_order`).
        interval: what the intervals of the neighbors are.
        notes: sentences: which reference means were used, what was left out.
        failures: models that could not be embedded.
        store: where the results lie.
        commands: what to try next.
    """

    title: str
    subtitle: str
    created_at: datetime
    subjects: Sequence[SubjectPoint]
    similarities: NDArray[np.floating[Any]]
    order: Sequence[int]
    interval: str = "95 % bootstrap interval"
    notes: Sequence[str] = ()
    failures: Sequence[Failure] = ()
    store: str | None = None
    commands: Sequence[Command] = ()

    def __post_init__(self) -> None:
        n = len(self.subjects)
        if np.shape(self.similarities) != (n, n):
            raise ValueError(f"similarities have shape {np.shape(self.similarities)}; {n} subjects need ({n}, {n})")
        if sorted(self.order) != list(range(n)):
            raise ValueError(f"order must name each of the {n} subjects once, got {list(self.order)[:10]}...")
        # Written so that NaN, which compares false with everything, fails as well.
        if n and not np.abs(self.similarities).max() <= 1 + SIMILARITY_SLACK:
            raise ValueError(
                f"similarities must lie in [-1, 1], found {float(np.abs(self.similarities).max())}; give cosines"
            )
        seen: set[tuple[str, str]] = set()
        for subject in self.subjects:
            if (subject.kind, subject.id) in seen:
                raise ValueError(f"two subjects are the {subject.kind} {subject.id!r}; ids must differ within a kind")
            seen.add((subject.kind, subject.id))
