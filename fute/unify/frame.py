"""The frame of a space: what all tasks have in common is removed, and what similarity means nothing is known.

Subjects share a large common part (every classifier separates something), which hides what tells them apart. A frame
knows it from pseudo-tasks, the pool's own (fute/unify/pseudo_tasks.py), embedded as any dataset and any model: their
mean is subtracted from every vector. So a frame follows from the space alone. Who else is in the store moves nobody,
and a lone dataset has a frame.

Cosines in the frame still depend on how much a subject resembles everything. A score puts each on the scale of its own
cosines with pseudo-subjects, which are unrelated to it: 0 is what unrelated tasks show, and the unit is their standard
deviation. Real tasks are a little more alike than the pool's own: unrelated ones are found at 1 rather than 0. How high
scores of unrelated pairs come by chance says when a score means anything.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fute.errors import FuteError, SpaceError
from fute.methods.embedder import Embedder
from fute.types import UNRELATED, Features, Floats, Kind, Pool
from fute.unify.pseudo_tasks import pseudo_tasks

Doubles = NDArray[np.float64]
Metrics = Mapping[str, Any]
log = logging.getLogger(__name__)

Verdict = Literal["fits", "may fit", "nothing"]

KINDS: tuple[Kind, ...] = get_args(Kind)
PAIRS: tuple[tuple[Kind, Kind], ...] = (("dataset", "dataset"), ("dataset", "model"), ("model", "model"))

# Raised when the same space would get another frame.
FRAME_VERSION = 2

FITS, MAY_FIT = 0.001, 0.05
"""Chances up to which a best candidate fits, or may fit. Chosen on the 29 tasks of benchmarks/retrieval.py with seed 0;
what they do to other tasks and seeds, and so the legend's share, stands in README, "How good it is"."""

FEWEST_TASKS = 8  # below which a deviation of cosines is a guess
FEWEST_PAIRS = 1000  # of unrelated pseudo-subjects, below which the tail of chance is not known
TAIL = 0.98  # quantile from which chance falls exponentially; below it is counted
BOTH_SIDES = 1.9
"""Standard deviation of the sum of both sides of unrelated pairs: more than the root of 2, for both are of one cosine.
Measured for pairs of all kinds on the pool of benchmarks/retrieval.py, 1.87 to 1.94."""
LEAST_SPREAD = 1e-6  # of cosines: subjects as alike as rounding allows


@dataclass(frozen=True, eq=False)
class Null:
    """How scores of unrelated pairs of two kinds are distributed.

    Attributes:
        pairs: how many there were.
        quantiles: (101,) of their scores, 0 to 100 %.
        edge: the quantile TAIL; up to it the pairs are counted.
        excess: the mean by which those above it exceed it: beyond, chance falls exponentially.
    """

    pairs: int
    quantiles: Doubles
    edge: float
    excess: float

    @classmethod
    def of(cls, scores: Doubles) -> Null:
        edge = float(np.quantile(scores, TAIL))
        above = scores[scores > edge]
        excess = float((above - edge).mean()) if len(above) else 0.0
        return cls(len(scores), np.quantile(scores, np.linspace(0, 1, 101)), edge, max(excess, LEAST_SPREAD))

    def p_value(self, score: float, candidates: int) -> float | None:
        """Chance that the best of so many unrelated candidates scores as high. None: too few pairs to know."""
        if self.pairs < FEWEST_PAIRS:
            return None
        if score > self.edge:
            one = (1 - TAIL) * float(np.exp(-(score - self.edge) / self.excess))
        else:
            one = 1 - float(np.interp(score, self.quantiles, np.linspace(0, 1, 101)))
        return float(-np.expm1(candidates * np.log1p(-min(one, 1 - 1e-12))))


Nulls = Mapping[tuple[Kind, Kind], Null]


@dataclass(frozen=True, eq=False)
class Frame:
    """What is removed from the vectors of a space, and what its scores are measured by.

    Attributes:
        mean: (dim,) of all pseudo-subjects, as the method made them.
        nulls: how scores of unrelated pairs are distributed, by their kinds.
        own_first: by kinds of query and candidate, how often a pseudo-task's other half comes first among all: what a
            pool of this size can tell.
        tasks: how many pseudo-tasks it was made of.
        pseudo: by kind, (tasks, dim) the same tasks as datasets and as models, in the frame. Empty where a frame was
            read back, which is enough to place vectors and to judge scores.
    """

    mean: Floats
    nulls: Nulls
    own_first: Mapping[tuple[Kind, Kind], float]
    tasks: int
    pseudo: Mapping[Kind, Floats] = field(default_factory=dict)

    @classmethod
    def of(cls, datasets: Floats, models: Floats) -> Frame:
        """From (tasks, dim) vectors of the same pseudo-tasks, as the method made them."""
        mean = (datasets.mean(axis=0, dtype=np.float64) + models.mean(axis=0, dtype=np.float64)) / 2
        bare = cls(mean.astype(np.float32), {}, {}, len(datasets))
        pseudo: dict[Kind, Floats] = {"dataset": bare.place(datasets), "model": bare.place(models)}
        return cls(bare.mean, _nulls(pseudo), own_firsts(pseudo, pseudo), len(datasets), pseudo)

    def p_value(
        self, score: float, kinds: tuple[Kind, Kind], candidates: int, metrics: tuple[Metrics, Metrics]
    ) -> float | None:
        """Chance of a pair that is the best of so many: its score must be no chance, and neither side's outputs or
        labels may be unrelated to their texts, so it is the largest of these chances.

        Args:
            metrics: of both embeddings.

        Returns:
            None: there are too few unrelated pairs to know.
        """
        chance = self.nulls[kinds].p_value(score, candidates)
        return None if chance is None else max(chance, *(float(m.get(UNRELATED, 0.0)) for m in metrics))

    def place(self, vectors: Sequence[Floats] | Floats) -> Floats:
        """(n, dim) vectors without the mean, at unit length.

        Raises:
            SpaceError: they are of another length than the frame, so of another space.
        """
        placed = np.array(vectors, dtype=np.float32)
        if placed.shape[1] != len(self.mean):
            raise SpaceError(f"vectors of {placed.shape[1]} numbers, but a frame of {len(self.mean)}")
        placed -= self.mean
        norms = np.linalg.norm(placed, axis=1, keepdims=True)
        # A subject that is the mean itself has no direction left; it becomes zero, and its similarities are zero.
        return np.divide(placed, norms, out=np.zeros_like(placed), where=norms > 1e-6)

    def chance(self, placed: Floats) -> Chance:
        """What cosines each of n placed subjects has with unrelated ones."""
        return Chance({kind: spread(placed @ self.pseudo[kind].T) for kind in KINDS})


def own_firsts(queries: Mapping[Kind, Floats], candidates: Mapping[Kind, Floats]) -> dict[tuple[Kind, Kind], float]:
    """By kinds of query and candidate, how often a pseudo-task's other half comes first among all."""
    pairs: tuple[tuple[Kind, Kind], ...] = (("dataset", "model"), ("model", "dataset"))
    return {
        (a, b): float(((queries[a] @ candidates[b].T).argmax(axis=1) == np.arange(len(queries[a]))).mean())
        for a, b in pairs
    }


def _nulls(pseudo: Mapping[Kind, Floats]) -> Nulls:
    """Scores of unrelated pairs: of different pseudo-tasks, each task left out of its own scale."""
    t = len(pseudo["dataset"])
    others = ~np.eye(t, dtype=bool)
    found = {}
    for a, b in PAIRS:
        cosines = pseudo[a] @ pseudo[b].T
        apart = np.where(others, cosines, np.nan)
        rows, columns = spread(apart), spread(apart.T)
        scores = score(cosines, (rows[0][:, None], rows[1][:, None]), (columns[0][None], columns[1][None]))
        found[a, b] = found[b, a] = Null.of(scores[others] if a != b else scores[np.triu_indices(t, 1)])
    return found


Spread = tuple[Doubles, Doubles]


@dataclass(frozen=True, eq=False)
class Chance:
    """Means and standard deviations of each subject's cosines with unrelated datasets and models, (n,) each."""

    of: Mapping[Kind, Spread]

    def scores(self, cosines: NDArray[np.floating], kinds: Sequence[Kind], first: int = 0) -> Doubles:
        """Cosines of some subjects with all, (m, n), as scores.

        Args:
            kinds: n.
            first: the row of the first of the m.
        """
        rows = np.arange(first, first + len(cosines))
        is_model = np.array([kind == "model" for kind in kinds])
        found = np.empty(cosines.shape)
        # Each subject on its own scale for the other's kind.
        for row_kind in KINDS:
            own = rows[is_model[rows] == (row_kind == "model")]
            for column_kind in KINDS:
                others = np.flatnonzero(is_model == (column_kind == "model"))
                (mean, deviation), (their_mean, their_deviation) = self.of[column_kind], self.of[row_kind]
                place = np.ix_(own - first, others)
                found[place] = score(
                    cosines[place],
                    (mean[own, None], deviation[own, None]),
                    (their_mean[others], their_deviation[others]),
                )
        return found


def score(cosine: NDArray[np.floating], one: Spread, other: Spread) -> Doubles:
    """How far a cosine is above chance, on the scales of both subjects, in standard deviations of unrelated pairs."""
    return ((cosine - one[0]) / one[1] + (cosine - other[0]) / other[1]) / BOTH_SIDES


def spread(cosines: NDArray[np.floating]) -> Spread:
    """(n, t) -> mean and deviation of each row, NaN left out."""
    doubles = cosines.astype(np.float64)
    return np.nanmean(doubles, axis=1), np.maximum(np.nanstd(doubles, axis=1), LEAST_SPREAD)


_JUDGED = (
    "Scores say how far two subjects are above chance: 0 and 1 are mean and standard deviation of unrelated tasks of "
    "the pool's own. A best candidate fits where the best of as many of these scores as high in at most 1 of "
    f"{1 / FITS:,.0f} cases, and may fit up to 1 of {1 / MAY_FIT:.0f}; else nothing here fits"
)
_ALIKE = "Real tasks are more alike: among candidates of other families alone, one was said to fit for about"
_TOLD = "nor does anything fit whose answers or labels cannot be told from shuffled ones"
LEGEND = f"{_JUDGED}, {_TOLD}. {_ALIKE} 1 of 12 subjects."
OUTPUTS_LEGEND = f"{_JUDGED}. {_ALIKE} 1 of 3 models of texts."
"""Of answers alone: benchmarks/outputs.py."""
NO_LEGEND = "Similarities are plain cosines: the space has no frame, and nothing says from where on they mean much."
UNJUDGED_LEGEND = (
    "Scores say how far two subjects are above chance: 0 and 1 are mean and standard deviation of unrelated tasks of "
    "the pool's own. There are too few of these to say which candidate fits."
)


def legend(frame: Frame | None, method: str = "") -> str:
    """How scores of a space of a method are to be read."""
    if frame is None:
        return NO_LEGEND
    judged = OUTPUTS_LEGEND if method == "outputs" else LEGEND
    return judged if all(null.pairs >= FEWEST_PAIRS for null in frame.nulls.values()) else UNJUDGED_LEGEND


def verdict(p_value: float | None) -> Verdict | None:
    """In words, what a best candidate is; None: not judged."""
    if p_value is None:
        return None
    return "fits" if p_value <= FITS else "may fit" if p_value <= MAY_FIT else "nothing"


def embed_pseudo_tasks(embedder: Embedder, features: Features, pool: Pool, seed: int) -> dict[str, Floats] | None:
    """Embed the pool's own tasks: what `Frame.of` takes. The same space gives the same vectors, to rounding.

    Returns:
        datasets and models, (tasks, dim) each. None: the pool holds too few tasks of its own that the method embeds, so
        nothing can be removed or judged.
    """
    tasks = list(pseudo_tasks(pool, features(pool.inputs), embedder.pseudo_tasks, seed))
    log.info("frame: embedding %d of the pool's own tasks, once for this space", len(tasks))
    made: list[tuple[Floats, Floats]] = []
    for task, model in zip(tasks, embedder.models([t.answers for t in tasks]), strict=True):
        if isinstance(model, FuteError):
            continue
        try:
            made.append((embedder.dataset(task.dataset).vector, model.vector))
        except FuteError:  # a task that this method cannot embed
            continue
    if len(made) < FEWEST_TASKS:
        return None
    return {"datasets": np.stack([dataset for dataset, _ in made]), "models": np.stack([model for _, model in made])}


def similarities(placed: Floats) -> NDArray[np.float32]:
    """(n, n) cosines of placed vectors."""
    return np.clip(placed @ placed.T, -1.0, 1.0)
