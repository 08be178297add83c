"""Bootstrap intervals of a similarity: what if the pool, or the dataset, had been another draw of rows?

Rows are resampled with replacement and the whole way is gone again: cross-covariance, root, frame, cosine. Matrices
are kept as factors of their rank (that of the outputs), so a resample costs one thin product and not a d x d root.

Resampling adds noise of its own to both sides, which pulls every resampled cosine down. So the interval is centred on
the similarity as measured and takes only its spread from the resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fute.methods.crosscov.root import Root
from fute.methods.crosscov.whitening import Doubles
from fute.types import Dataset, Floats, Outputs

NORMAL_95 = 1.959964
DRAWS_KEPT = 2  # of the pool's rows, and of what was drawn last


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
        shared: |M|^2.
    """

    root: Root
    overlaps: Doubles
    lengths: Doubles
    shared: float

    @property
    def nbytes(self) -> int:
        return self.root.axes.nbytes

    def cosines(self, other: Resamples) -> Doubles:
        """(B,) of both sides' resampled embeddings, in the frame."""
        dots = self.root.cosine(other.root) - self.overlaps - other.overlaps + self.shared
        return dots / (self.lengths * other.lengths)


class Bootstrap:
    """Resamples of the subjects of a space. Draws of the latest rows are kept: most models answered the whole pool.

    Args:
        dataset_rows, model_rows: (n, d) features and (n, c) outputs of a subject; the same features for the same rows.
        mean: the frame's, as a matrix, (d, d).
    """

    def __init__(
        self,
        dataset_rows: Callable[[Dataset], tuple[Doubles, Doubles]],
        model_rows: Callable[[Outputs], tuple[Doubles, Doubles]],
        mean: Doubles,
        times: int,
        seed: int,
    ) -> None:
        self._dataset_rows, self._model_rows = dataset_rows, model_rows
        self._mean, self._times, self._seed = mean, times, seed
        self._drawn: list[tuple[Doubles, Draws]] = []

    def dataset(self, dataset: Dataset) -> Resamples:
        return self._resample(*self._dataset_rows(dataset))

    def model(self, outputs: Outputs) -> Resamples:
        return self._resample(*self._model_rows(outputs))

    def _resample(self, z: Doubles, y: Doubles) -> Resamples:
        return resample(self.draws(z), y, self._mean)

    def draws(self, z: Doubles) -> Draws:
        found = next((draws for rows, draws in self._drawn if rows is z), None)
        if found is None:
            found = Draws.of(z, times=self._times, seed=self._seed)
        others = [(rows, draws) for rows, draws in self._drawn if rows is not z]
        self._drawn = [*others, (z, found)][-DRAWS_KEPT:]
        return found


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
    overlaps, shared = _overlap_with(root, mean) / root.rest, float((mean**2).sum())
    return Resamples(root, overlaps, np.sqrt(np.maximum(1 - 2 * overlaps + shared, 1e-12)), shared)


def _independent(y: Doubles) -> Doubles:
    """(n, c) outputs -> (n, r) columns with the same Y Y' once centred: probabilities add up to 1, so one is spared."""
    centred = y - y.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    return centred @ directions[:, variances > 1e-12 * variances[-1]]


def interval(measured: float, resampled: Doubles) -> tuple[float, float]:
    """95 % interval around what was measured, a similarity or a score, by the spread of (B,) resampled ones."""
    half = NORMAL_95 * float(resampled.std(ddof=1))
    return measured - half, measured + half


def _overlap_with(root: Root, matrix: Doubles) -> Doubles:
    """<U diag(s) U', M> for each resample, (B,)."""
    flat = root.axes.reshape(-1, len(matrix))  # (B x r, d): one product instead of B thin ones
    products = np.einsum("ij,ij->i", flat @ matrix.astype(np.float32), flat)
    return (products.reshape(root.strengths.shape) * root.strengths).sum(axis=1)
