"""Bootstrap intervals of a similarity: what if the pool, or the dataset, had been another draw of rows?

Rows are resampled with replacement and the whole way is gone again: cross-covariance, root, frame, cosine. Matrices
are kept as factors of their rank (that of the outputs), so a resample costs one thin product and not a d x d root.

Resampling adds noise of its own to both sides, which pulls every resampled cosine down. So the interval is centred on
the similarity as measured and takes only its spread from the resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fute.methods.crosscov.whitening import Doubles
from fute.types import Floats

NORMAL_95 = 1.959964


@dataclass(frozen=True, eq=False)
class Draws:
    """Rows of one table, drawn B times with replacement; shared by all subjects that answered these rows.

    The same seed and n give the same rows: all models are resampled on the same rows of the pool, so that what they
    share by answering the same texts stays shared. In float32, in which counts are exact: rounding is far below what
    resampling adds, and the product over the rows, by far the most work, takes half the time.

    Attributes:
        z: (n, d) features.
        counts: (n, B) how often each row was drawn.
        z_means: (B, d) of the drawn rows.
    """

    z: Floats
    counts: Floats
    z_means: Doubles

    @classmethod
    def of(cls, z: Doubles, *, times: int, seed: int) -> Draws:
        n = len(z)
        counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=times)  # (B, n)
        return cls(z.astype(np.float32), np.ascontiguousarray(counts.T, np.float32), counts @ z / n)


@dataclass(frozen=True, eq=False)
class Resamples:
    """B resampled embeddings V of one subject: V = (R - tr(R)/d I) / |R - tr(R)/d I|, R = U diag(s) U'.

    Attributes:
        axes: (B, r, d) U'.
        strengths: (B, r) s, norm 1.
        overlaps: (B,) <V, M> with the frame's mean M.
        lengths: (B,) |V - M|.
    """

    axes: Floats
    strengths: Doubles
    overlaps: Doubles
    lengths: Doubles

    @property
    def traces(self) -> Doubles:
        """(B,) of R, divided by the root of d."""
        return self.strengths.sum(axis=1) / np.sqrt(self.axes.shape[2])

    @property
    def rests(self) -> Doubles:
        """(B,) |R - tr(R)/d I|."""
        return np.sqrt(np.maximum(1 - self.traces**2, 1e-12))


def resample(draws: Draws, y: Doubles, mean: Doubles) -> Resamples:
    """The embedding of (n, c) outputs for each draw of their rows.

    Args:
        mean: the frame's, as a matrix, (d, d); its trace is 0, as that of every embedding.
    """
    n, times = draws.counts.shape
    columns = _independent(y).T.astype(np.float32)  # (r, n)
    y_means = (columns @ draws.counts).T / n  # (B, r)
    a = np.empty((times, len(columns), draws.z.shape[1]))  # (B, r, d) A'
    for k, column in enumerate(columns):
        a[:, k] = (draws.counts * column[:, None]).T @ draws.z
    a = a / n - y_means[:, :, None] * draws.z_means[:, None, :]
    # The left singular vectors of A through the small matrix A'A.
    squared, right = np.linalg.eigh(a @ a.transpose(0, 2, 1))
    singular = np.sqrt(np.maximum(squared, 0.0))
    largest = singular[:, -1:]
    kept = singular > 1e-6 * np.maximum(largest, 1e-300)
    inverse = np.divide(1.0, singular, out=np.zeros_like(singular), where=kept)
    axes = (inverse[:, :, None] * (right.transpose(0, 2, 1) @ a)).astype(np.float32)
    strengths = np.where(kept, singular, 0.0)
    strengths = strengths / np.maximum(np.linalg.norm(strengths, axis=1, keepdims=True), 1e-300)
    bare = Resamples(axes, strengths, np.zeros(times), np.ones(times))
    overlaps = _overlap_with(axes, strengths, mean) / bare.rests
    lengths = np.sqrt(np.maximum(1 - 2 * overlaps + (mean**2).sum(), 1e-12))
    return Resamples(axes, strengths, overlaps, lengths)


def _independent(y: Doubles) -> Doubles:
    """(n, c) outputs -> (n, r) columns with the same Y Y' once centred: probabilities add up to 1, so one is spared."""
    centred = y - y.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    return centred @ directions[:, variances > 1e-12 * variances[-1]]


def resampled_cosines(one: Resamples, other: Resamples, mean: Doubles) -> Doubles:
    """(B,) cosines of the resampled embeddings in the frame of that mean."""
    crossed = one.axes @ other.axes.transpose(0, 2, 1)  # (B, r, r')
    roots = ((crossed**2 * other.strengths[:, None, :]).sum(axis=2) * one.strengths).sum(axis=1)
    dots = (roots - one.traces * other.traces) / (one.rests * other.rests)
    return (dots - one.overlaps - other.overlaps + (mean**2).sum()) / (one.lengths * other.lengths)


def interval(measured: float, resampled: Doubles) -> tuple[float, float]:
    """95 % interval around what was measured, a similarity or a score, by the spread of (B,) resampled ones."""
    half = NORMAL_95 * float(resampled.std(ddof=1))
    return measured - half, measured + half


def _overlap_with(axes: Floats, strengths: Doubles, matrix: Doubles) -> Doubles:
    """<U diag(s) U', M> for each resample, (B,)."""
    flat = axes.reshape(-1, len(matrix))  # (B x r, d): one product instead of B thin ones
    products = np.einsum("ij,ij->i", flat @ matrix.astype(np.float32), flat)
    return (products.reshape(strengths.shape) * strengths).sum(axis=1)
