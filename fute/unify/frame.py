"""One frame for all embeddings of a space: what a population has in common removed, unit length.

Subjects of one kind share a large common part (every classifier separates something; models of one make lean the same
way), which hides what tells them apart. A reference holds, for each group of subjects, the mean to subtract and, for
crosscov, the matrix that recentres. A mean needs a population, so

- a space keeps its reference, made once and versioned: a new subject moves nobody else;
- a model takes the reference of its own make (trained tfidf, prompt ...) where that make has enough subjects, else the
  one of all models;
- a kind with too few subjects borrows the other kind's, for one lone dataset would centre itself to zero;
- where nothing has enough subjects nothing is removed, and every ranking says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fute.errors import SpaceError
from fute.fingerprint import fingerprint
from fute.types import Floats, Kind
from fute.unify.recentre import mixing_matrix, recentre

# Many small decompositions: a second BLAS thread makes each of them slower (34 ms against 7 ms once).
ONE_BLAS_THREAD = {"limits": 1, "user_api": "blas"}

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Subject:
    """What decides a subject's group: dataset or model, and a model's make."""

    kind: Kind
    make: str = ""

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups whose reference fits, the best first."""
        other = next(kind for kind in KINDS if kind != self.kind)
        own = (f"model: {self.make}",) if self.kind == "model" and self.make else ()
        return (*own, self.kind, other)


@dataclass(frozen=True, eq=False)
class GroupReference:
    """What is removed from the subjects of one group.

    Attributes:
        mean: (dim,) subtracted last.
        mixing: (d, d) recentring matrix of crosscov; None for other methods.
        members: identities of the embeddings that it was made of.
    """

    mean: Floats
    mixing: Floats | None = None
    members: tuple[str, ...] = ()

    def remove(self, vector: Floats) -> Floats:
        if self.mean.shape != vector.shape:
            raise SpaceError(f"a vector of {len(vector)} numbers, but a reference mean of {len(self.mean)}")
        return (vector if self.mixing is None else recentre(vector, self.mixing)) - self.mean


@dataclass(frozen=True, eq=False)
class Reference:
    """All references of a space; version 0 holds none."""

    version: int = 0
    groups: Mapping[str, GroupReference] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Of whom it was made: two machines may have made a version each."""
        return fingerprint(version=self.version, groups={name: list(g.members) for name, g in self.groups.items()})

    def of(self, subject: Subject) -> tuple[str, GroupReference] | None:
        for group in subject.groups:
            if group in self.groups:
                return group, self.groups[group]
        return None

    def describe(self) -> str:
        """What was removed, in words that fit a table: 'v2', 'v2, datasets borrow the models'', 'none'."""
        if not self.groups:
            return "none"
        text = f"v{self.version}"
        for kind in KINDS:
            found = self.of(Subject(kind))
            if found is not None and found[0] != kind:
                text += f", {kind}s borrow the {found[0]}s'"
        return text


NO_REFERENCE = Reference()


@threadpool_limits.wrap(**ONE_BLAS_THREAD)
def make_reference(
    version: int,
    vectors: Sequence[Floats] | Floats,
    subjects: Sequence[Subject],
    members: Sequence[str],
    *,
    min_population: int,
    recentred: bool,
) -> Reference:
    """A reference for each group that has at least `min_population` subjects.

    Args:
        vectors: n of (dim,), unit length, as the method made them.
        members: identities of the vectors.
        recentred: whether the vectors are crosscov matrices, to be recentred before their mean is taken.
    """
    by_group: dict[str, list[int]] = {}
    for i, subject in enumerate(subjects):
        for group in subject.groups[:-1]:
            by_group.setdefault(group, []).append(i)
    groups: dict[str, GroupReference] = {}
    same: dict[tuple[int, ...], GroupReference] = {}  # all models, and those of one make where there is but one
    for group, rows in sorted(by_group.items()):
        if len(rows) < min_population:
            continue
        if (made := same.get(tuple(rows))) is not None:
            groups[group] = made
            continue
        mixing = mixing_matrix([vectors[i] for i in rows]) if recentred else None
        total = np.zeros(len(vectors[0]), dtype=np.float64)
        for i in rows:  # one after the other: a large population's vectors are not all in memory
            total += vectors[i] if mixing is None else recentre(vectors[i], mixing)
        mean = (total / len(rows)).astype(np.float32)
        groups[group] = same[tuple(rows)] = GroupReference(mean, mixing, tuple(members[i] for i in rows))
    return Reference(version if groups else 0, groups)


@threadpool_limits.wrap(**ONE_BLAS_THREAD)
def unify(
    vectors: Sequence[Floats] | Floats, subjects: Sequence[Subject], reference: Reference, out: Floats | None = None
) -> Floats:
    """(n, dim) vectors with their group's reference removed, unit length again.

    Args:
        vectors: n of (dim,).
        out: (n, dim) where to put them, for instance in a file; None: a new array.

    Raises:
        SpaceError: the vectors and the reference differ in length, so they are of different spaces.
    """
    unified = np.empty((len(vectors), len(vectors[0])), dtype=np.float32) if out is None else out
    for i, subject in enumerate(subjects):
        found = reference.of(subject)
        vector = vectors[i] if found is None else found[1].remove(vectors[i])
        norm = np.linalg.norm(vector[None], axis=1)[0]
        # A subject that is the mean itself has no direction left; it becomes zero, and its similarities are zero.
        unified[i] = vector / norm if norm > 1e-6 else 0.0
    return unified


def require_one_space(spaces: Sequence[str]) -> str:
    """The one space of all subjects.

    Raises:
        SpaceError: there are several.
    """
    distinct = sorted(set(spaces))
    if len(distinct) != 1:
        raise SpaceError(
            f"vectors of {len(distinct)} spaces ({', '.join(distinct)}) cannot be compared: another surrogate, method, "
            "setting or pool gives the axes another meaning. Embed all subjects in one space: their outputs are "
            "stored, so no model is asked again"
        )
    return distinct[0]


def similarities(unified: Floats) -> NDArray[np.float32]:
    """(n, n) cosines of unified vectors."""
    return np.clip(unified @ unified.T, -1.0, 1.0)
