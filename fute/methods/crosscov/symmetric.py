"""Symmetric matrices as vectors, and their roots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fute.methods.crosscov.whitening import Doubles


def root_of_gram(a: Doubles) -> Doubles:
    """(d, c) -> (A A')^1/2 at Frobenius norm 1, (d, d), from the singular values of A."""
    left, singular, _ = np.linalg.svd(a, full_matrices=False)
    return (left * (singular / np.linalg.norm(singular))) @ left.T


def without_identity(matrix: Doubles) -> Doubles:
    """(d, d) symmetric, less its part along the identity, at Frobenius norm 1; zeros where nothing else is left.

    Two roots of unrelated outputs overlap by the product of their traces over d, so the more columns both have, the
    more alike they seem. Without their traces they overlap by nothing, whatever their ranks.
    """
    rest = matrix - np.trace(matrix) / len(matrix) * np.eye(len(matrix))
    norm = np.linalg.norm(rest)
    return rest / norm if norm > 1e-6 else np.zeros_like(rest)


def to_vector(matrix: Doubles) -> Doubles:
    """(d, d) symmetric -> d(d+1)/2 numbers whose dot products are the matrices' inner products.

    Off-diagonals stand once in the triangle and twice in the matrix, hence sqrt(2).
    """
    rows, columns = np.triu_indices(len(matrix))
    return matrix[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))


def to_matrix(vector: NDArray[np.floating]) -> Doubles:
    """The inverse of `to_vector`.

    Raises:
        ValueError: no matrix has so many numbers in its triangle.
    """
    d = int((np.sqrt(8 * len(vector) + 1) - 1) / 2)
    if d * (d + 1) // 2 != len(vector):
        raise ValueError(f"{len(vector)} numbers are no triangle of a matrix")
    rows, columns = np.triu_indices(d)
    matrix = np.zeros((d, d))
    matrix[rows, columns] = vector * np.where(rows == columns, 1.0, np.sqrt(0.5))
    matrix[columns, rows] = matrix[rows, columns]
    return matrix
