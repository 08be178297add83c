"""What the atlas shows: plain data, with no reference to a store or a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fute.types import Kind
from fute.unify.frame import NO_LEGEND, Verdict

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Projection:
    """One map of a space, and how much of the space it keeps.

    Attributes:
        name: PCA or t-SNE.
        places: (n, 2), centred, the wider direction along the first axis.
        kept: by k, the share of the k nearest in the space that are among the k nearest on the map, 0 to 1; empty
            where the subjects are too few to count.
        trust: trustworthiness (Venna and Kaski 2001): 1 where nobody is near on the map who is far in the space.
        variance: PCA: share of the variance that lies in the plane.
    """

    name: str
    places: Matrix
    kept: Mapping[int, float] = field(default_factory=dict)
    trust: float | None = None
    variance: float | None = None


@dataclass(frozen=True)
class Tree:
    """Average linkage on the angles.

    Attributes:
        order: the n rows as leaves, so that like stands beside like.
        merges: n - 1 of (a, b, radians): nodes below n are rows, node n + i is merge i; the height is the mean angle
            between the two parts.
    """

    order: tuple[int, ...]
    merges: tuple[tuple[int, int, float], ...] = ()


class Accuracy(NamedTuple):
    """How often a model will be right on a dataset, in 9 of 10 cases within `low` and `high`; or why that is unknown.

    `better`: surely more often than always giving the most frequent label, which is right in `majority` of the texts.
    """

    expected: float | None = None
    low: float | None = None
    high: float | None = None
    unknown: str | None = None
    better: bool = False
    always: str | None = None
    majority: float | None = None


class Neighbor(NamedTuple):
    """A subject near another one, with its score: see fute.unify.frame; in a space without a frame a cosine.

    The score is None for a model that will be right most often on a dataset, but is beyond the nearest that the ranking
    keeps. The interval is None where none was computed, the verdict where nothing is known of chance, the accuracy for
    all but models near a dataset with classes.
    """

    id: str
    kind: Kind
    score: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    verdict: Verdict | None = None
    accuracy: Accuracy | None = None


class Failure(NamedTuple):
    """A model that is not on the map, and why."""

    id: str
    reason: str


class Command(NamedTuple):
    """A command to try next, and what it is for."""

    purpose: str
    command: str


class Prompt(NamedTuple):
    """What a prompted model is asked. `verbalizer`: the words that stand for each label; empty for free text."""

    template: str
    system: str | None = None
    follow_up: str | None = None
    verbalizer: Mapping[str, Sequence[str]] = {}


class Cost(NamedTuple):
    """What asking a model about the pool took. None where it is not known; `usd` needs the endpoint's prices.

    `kept`: answers that were in the store already, paid for by an earlier run.
    """

    calls: int
    tokens_in: int | None = None
    tokens_out: int | None = None
    usd: float | None = None
    latency_ms: float | None = None
    kept: int = 0


class Version(NamedTuple):
    """One embedding of a subject.

    `similarity` is the cosine with the embedding that counts now, as the method made both (not in the frame).
    """

    space: str
    made: datetime
    fingerprint: str
    current: bool
    similarity: float
    run: str | None = None
    flow_run: str | None = None


class DriftCheck(NamedTuple):
    """One reading of a prompted model's panel: the share of texts with another label (free text: answer) than at first,
    and its 95 % interval."""

    made: datetime
    baseline: str
    drifted: bool
    share: float
    low: float
    high: float
    reasons: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One dataset or model.

    Attributes:
        type: a dataset's task type (classification ...) or a model's kind (transformers, prompt ...).
        family: group of related tasks, where known.
        task: id of the dataset that a model was trained or written for, where known.
        score: held-out score, named by `score_name` (accuracy ...); `majority` is the same score of always answering
            the most frequent label.
        facts: what else is known, as (name, value).
        history: its embeddings, oldest first.
        drift: its checks, oldest first.
    """

    id: str
    kind: Kind
    type: str
    family: str | None = None
    task: str | None = None
    score: float | None = None
    score_name: str | None = None
    majority: float | None = None
    facts: Sequence[tuple[str, str]] = ()
    prompt: Prompt | None = None
    cost: Cost | None = None
    history: Sequence[Version] = ()
    drift: Sequence[DriftCheck] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class SpaceMap:
    """One space of the atlas.

    Attributes:
        name: what the chooser calls it: the method, and what tells it apart where several have one method.
        about: the space in words: method, surrogate, pool.
        members: n subjects, as rows of `Atlas.subjects`.
        similarities: (n, n), cosine similarity of the members.
        projections: maps, the one to start with first; each with n places.
        tree: of the n members.
        nearest: for each member, nearest first. A dataset lists models; a model lists datasets and models.
        notes: sentences: what was left out.
        legend: how its scores are to be read.
    """

    id: str
    name: str
    about: str
    members: Sequence[int]
    similarities: NDArray[np.floating[Any]]
    projections: Sequence[Projection]
    tree: Tree
    nearest: Sequence[Sequence[Neighbor]]
    notes: Sequence[str] = ()
    legend: str = NO_LEGEND


@dataclass(frozen=True, kw_only=True, eq=False)
class Atlas:
    """Everything that the page shows.

    Attributes:
        created_at: shown in UTC; a time without a zone is taken as UTC.
        interval: what the intervals of the neighbors are.
        notes: sentences that hold for all spaces.
        failures: models that could not be embedded.
        store: where the results lie.
        commands: what to try next.
    """

    title: str
    created_at: datetime
    subjects: Sequence[Subject]
    spaces: Sequence[SpaceMap]
    interval: str = "95 % bootstrap interval"
    notes: Sequence[str] = ()
    failures: Sequence[Failure] = ()
    store: str | None = None
    commands: Sequence[Command] = field(default=())
