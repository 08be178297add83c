"""Aligned spaces: vectors of one surrogate's space read in another's, both over the same pool.

With Z the whitened features of the pool, crosscov's A is Z'Y / n. What space a sees of the outputs, regressed on its
features, space b would see as A_b = Z_b' Z_a (Z_a' Z_a)^-1 A_a = W A_a, so W follows from the texts of the pool alone:
no subject takes part in it, and none is asked again. A vector holds the root of A A' without its trace. The root has
fewer directions than axes, so its smallest eigenvalue is zero, which gives the trace back; then
(A_b A_b')^1/2 = (W R_a^2 W')^1/2.

Mapped vectors are weaker than b's own, and lean their own way. So the pool's pseudo-tasks are mapped as well: their
mean is what mapped vectors are centred by, and how they resemble b's says what is chance between the two spaces. How
often a mapped pseudo-task finds its own other half in b, against how often b's own finds it, is the fidelity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fute.errors import SpaceError
from fute.methods.crosscov.root import Root, to_matrix, to_vector, without_identity
from fute.methods.crosscov.whitening import Doubles
from fute.types import Floats, Kind
from fute.unify.frame import KINDS, Frame, Null, own_firsts, score, spread

ALIGN_VERSION = 1  # raised when the same two spaces would be aligned otherwise

FAITHFUL = 0.5
"""Fidelity from which spaces are compared. Chosen on every second task of benchmarks/align.py: there surrogates of
fidelity 0.30 and 0.44 still found 0.66 and 0.77 of what the space's own subjects find, on the other tasks 0.50 and
0.70."""

ROUNDING = 1e-5  # of the largest eigenvalue of a root: less is what float32 left of zero


@dataclass(frozen=True, eq=False)
class Alignment:
    """The map of space a into space b, and what similarities between the two mean.

    Attributes:
        matrix: (d_b, d_a) W.
        frame: of b, with its pseudo-subjects.
        mapped: of the pseudo-subjects of a in b; its nulls are by kinds of a mapped and of an own subject.
    """

    matrix: Doubles
    frame: Frame
    mapped: Frame

    @classmethod
    def of(cls, matrix: Doubles, frame: Frame, mapped: Mapping[str, Floats]) -> Alignment:
        """From b's frame and its own pseudo-tasks as a embeds them, mapped: datasets and models, (tasks, dim) each."""
        bare = Frame.of(mapped["datasets"], mapped["models"])
        t = bare.tasks
        if t != frame.tasks:
            raise SpaceError(
                f"of the {frame.tasks} tasks of the pool's own that the space has, the other one embeds {t}; give both "
                "a larger pool"
            )
        others = ~np.eye(t, dtype=bool)
        nulls = {}
        for a in KINDS:
            for b in KINDS:
                cosines = bare.pseudo[a] @ frame.pseudo[b].T
                apart = np.where(others, cosines, np.nan)
                rows, columns = spread(apart), spread(apart.T)
                found = score(cosines, (rows[0][:, None], rows[1][:, None]), (columns[0][None], columns[1][None]))
                nulls[a, b] = Null.of(found[others])
        own_first = own_firsts(bare.pseudo, frame.pseudo)
        return cls(matrix, frame, Frame(bare.mean, nulls, own_first, t, bare.pseudo))

    @property
    def fidelity(self) -> float:
        """How often mapped pseudo-tasks find their own other half in b, as a share of how often b's own do; 1 at
        most."""
        found, own = (sum(frame.own_first.values()) for frame in (self.mapped, self.frame))
        return min(1.0, found / own) if own > 0 else 0.0

    def require_faithful(self) -> Alignment:
        """Itself. Raises SpaceError: too little of a is seen in b."""
        if self.fidelity < FAITHFUL:
            raise SpaceError(
                f"these spaces cannot be compared: their fidelity is {self.fidelity:.2f}, and {FAITHFUL} is needed "
                f"({self.in_words()}); give both a surrogate that sees the same in texts, or a larger pool"
            )
        return self

    def in_words(self) -> str:
        """What was measured."""
        there, here = (
            f"{frame.own_first['dataset', 'model']:.0%} of the datasets and {frame.own_first['model', 'dataset']:.0%} "
            "of the models"
            for frame in (self.mapped, self.frame)
        )
        return f"of {self.frame.tasks} tasks of the pool's own, {there} find their other half, within the space {here}"

    def scores(self, placed: Floats, kind: Kind, own: Floats, own_kind: Kind) -> Doubles:
        """(n, m) how far mapped subjects of a are above chance with b's own, all placed in their frames."""
        rows, columns = self.frame.chance(placed).of[own_kind], self.mapped.chance(own).of[kind]
        return score(placed @ own.T, (rows[0][:, None], rows[1][:, None]), (columns[0][None], columns[1][None]))


def map_of(za: Doubles, zb: Doubles) -> Doubles:
    """(d_b, d_a) W, which gives b's features of a text from a's: least squares over the pool.

    Args:
        za, zb: (n, d_a), (n, d_b) whitened features of the same texts, centred alike.
    """
    return np.linalg.lstsq(za, zb, rcond=None)[0].T.astype(np.float64)


def mapped(matrix: Doubles, vectors: Sequence[Floats] | Floats) -> Floats:
    """(n, dim_b) vectors of space a as space b has them.

    Raises:
        SpaceError: the vectors are not of space a, or nothing of one is seen in b.
    """
    found = []
    for vector in vectors:
        columns = covariance_from(vector)
        if len(columns) != matrix.shape[1]:
            raise SpaceError(f"a vector of {len(columns)} axes, but a map of {matrix.shape[1]}; it is of another space")
        there = without_identity(Root.of(matrix @ columns).matrix())
        if not there.any():
            raise SpaceError("nothing of a subject is seen in the other space")
        found.append(to_vector(there).astype(np.float32))
    return np.stack(found)


def covariance_from(vector: Floats) -> Doubles:
    """(d, r) A up to its scale and a rotation of its columns, from the vector that crosscov makes of it."""
    values, axes = np.linalg.eigh(to_matrix(vector))
    strengths = values - values[0]
    kept = strengths > ROUNDING * strengths[-1]
    return axes[:, kept] * strengths[kept]
