"""Recentring crosscov embeddings: what a population has in common is taken out of the matrices before their means.

Models of one make lean the same way (a bag of words always answers along frequent words), and all tasks lean along the
surrogate's loud directions. Both show as large common directions in the mean of the populations' A A'. Each A is
multiplied by (C + strength x mean eigenvalue)^-1/2, C being that mean, which shrinks just those directions; the root is
taken again, and the mean removed. Measured in benchmarks/retrieval.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpstrf

from fute.methods.crosscov.symmetric import root_of_gram, to_matrix, to_vector
from fute.types import Floats

STRENGTH = 10.0
"""How many mean eigenvalues are added to each before the inverse root: the higher, the less is changed. Found on one
seed of the 29 tasks in benchmarks/retrieval.py, and confirmed on other seeds, another pool and the other tasks."""

RANK_FLOOR = 1e-5  # what is left on the diagonal below this share of its largest is float32 rounding


def mixing_matrix(vectors: Sequence[Floats] | Floats) -> Floats:
    """n of (d(d+1)/2,), crosscov embeddings of a population -> (d, d) by which its A's are multiplied."""
    mean = np.zeros(2 * to_matrix(vectors[0]).shape[:1])
    for vector in vectors:
        root = to_matrix(vector)
        mean += root @ root / len(vectors)  # the root has norm 1, so each A A' counts with trace 1
    eigenvalues, eigenvectors = np.linalg.eigh(mean)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    scale = 1.0 / np.sqrt(eigenvalues / eigenvalues.mean() + STRENGTH)
    return ((eigenvectors * scale) @ eigenvectors.T).astype(np.float32)


def factor(vector: NDArray[np.floating]) -> NDArray[np.float64]:
    """An A (d, r) with (A A')^1/2 equal to the embedding.

    The root has as low a rank as the outputs have columns: pivoted Cholesky stops there, and spares the eigenvectors of
    the whole matrix.
    """
    matrix = to_matrix(vector)
    lower, pivots, rank, _ = dpstrf(matrix, lower=1, tol=RANK_FLOOR * matrix.diagonal().max())
    root = np.empty((len(matrix), rank))
    root[pivots - 1] = np.tril(lower)[:, :rank]  # matrix = root root'
    left, singular, _ = np.linalg.svd(root, full_matrices=False)
    return left * singular**2


def recentre(vector: NDArray[np.floating], mixing: NDArray[np.floating]) -> Floats:
    """The embedding of mixing x A."""
    return to_vector(root_of_gram(mixing @ factor(vector))).astype(np.float32)
