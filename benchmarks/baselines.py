"""What a ranking earns without any of fute: chance, and counting words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rankings import Similarities
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.preprocessing import normalize
from zoo import ARCHITECTURES

from fute.types import Floats, Outputs, TextTable

RANDOM_DIMENSION = 64


def random_vectors(tasks: Sequence[str], families: Sequence[str], seed: int) -> Similarities:
    rng = np.random.default_rng(seed)
    models = len(tasks) * len(ARCHITECTURES)
    datasets, vectors = (normalize(rng.normal(size=(n, RANDOM_DIMENSION))) for n in (len(tasks), models))
    return Similarities.of(tasks, families, datasets, vectors)


class BagOfWords:
    """Centroids of TF-IDF vectors, less that of the pool, at unit length.

    A dataset is the centroid of its texts. A model is seen through its answers only: the centroid of the pool's texts,
    each weighed by how sure the model is of its answer, for it is surest of texts like those that it knows.
    """

    def __init__(self, pool: TextTable) -> None:
        self._counter = HashingVectorizer(n_features=2**16, alternate_sign=False, norm=None)
        counts = self._counter.transform(pool.joined())
        self._weights = TfidfTransformer(sublinear_tf=True).fit(counts)
        self._pool = self._weights.transform(counts)
        self._mean = np.asarray(self._pool.mean(axis=0)).ravel()

    def dataset(self, inputs: TextTable) -> Floats:
        rows = self._weights.transform(self._counter.transform(inputs.joined()))
        return self._unit(np.asarray(rows.mean(axis=0)).ravel())

    def model(self, outputs: Outputs) -> Floats:
        sureness = outputs.values.max(axis=1)
        return self._unit(self._pool.T @ (sureness / sureness.sum()))

    def _unit(self, centroid: NDArray[np.floating]) -> Floats:
        moved = centroid - self._mean
        return (moved / max(float(np.linalg.norm(moved)), 1e-12)).astype(np.float32)
