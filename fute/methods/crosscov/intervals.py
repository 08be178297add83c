"""Bootstrap intervals of a similarity: what if the pool, or the dataset, had been another draw of rows?

Rows are resampled with replacement and the whole way is gone again: cross-covariance, root, frame, cosine. Matrices
are kept as factors of their rank (that of the outputs), so a resample costs one thin product and not a d x d root.

Resampling adds noise of its own to both sides, which pulls every resampled cosine down. So the interval is centred on
the similarity as measured and takes only its spread from the resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fute.methods.crosscov.root import Root
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
    """B resampled embeddings V of one subject.

    Attributes:
        root: (B,) of them.
        overlaps: (B,) <V, M> with the frame's mean M.
        lengths: (B,) |V - M|.
    """

    root: Root
    overlaps: Doubles
    lengths: Doubles


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
    root = Root.of(a.transpose(0, 2, 1))
    root = Root(root.axes.astype(np.float32), root.strengths)
    overlaps = _overlap_with(root, mean) / root.rest
    lengths = np.sqrt(np.maximum(1 - 2 * overlaps + (mean**2).sum(), 1e-12))
    return Resamples(root, overlaps, lengths)


def _independent(y: Doubles) -> Doubles:
    """(n, c) outputs -> (n, r) columns with the same Y Y' once centred: probabilities add up to 1, so one is spared."""
    centred = y - y.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    return centred @ directions[:, variances > 1e-12 * variances[-1]]


def resampled_cosines(one: Resamples, other: Resamples, mean: Doubles) -> Doubles:
    """(B,) cosines of the resampled embeddings in the frame of that mean."""
    dots = one.root.cosine(other.root)
    return (dots - one.overlaps - other.overlaps + (mean**2).sum()) / (one.lengths * other.lengths)


def interval(measured: float, resampled: Doubles) -> tuple[float, float]:
    """95 % interval around what was measured, a similarity or a score, by the spread of (B,) resampled ones."""
    half = NORMAL_95 * float(resampled.std(ddof=1))
    return measured - half, measured + half


def _overlap_with(root: Root, matrix: Doubles) -> Doubles:
    """<U diag(s) U', M> for each resample, (B,)."""
    flat = root.axes.reshape(-1, len(matrix))  # (B x r, d): one product instead of B thin ones
    products = np.einsum("ij,ij->i", flat @ matrix.astype(np.float32), flat)
    return (products.reshape(root.strengths.shape) * root.strengths).sum(axis=1)
