"""A = Z'Y / n, its root (A A')^1/2, and how alike two roots are: the one place for all who compare tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fute.methods.crosscov.whitening import Doubles
from fute.types import Floats

NO_STRENGTH = 1e-6  # of the largest: the squares that strengths are taken from hold no smaller ones


def cross_covariance(z: Doubles, y: Doubles) -> Doubles:
    """A = Z'Y / n with both sides centred on their own means; zeros where there are no rows.

    Args:
        z: (n, d) whitened features.
        y: (n, c) outputs.

    Returns:
        (d, c).
    """
    if len(z) == 0:
        return np.zeros((z.shape[1], y.shape[1]))
    return (z - z.mean(axis=0)).T @ (y - y.mean(axis=0)) / len(z)


@dataclass(frozen=True, eq=False)
class Root:
    """(A A')^1/2 = U diag(s) U' at Frobenius norm 1, of one A or of a stack of them; zero where A is.

    As factors, for A has few columns: two roots are compared by a thin product and not by d x d matrices.

    Attributes:
        axes: (..., c, d) U'.
        strengths: (..., c) s.
    """

    axes: Doubles | Floats
    strengths: Doubles

    @classmethod
    def of(cls, a: Doubles) -> Root:
        """From (..., d, c), through the small matrix A'A."""
        squared, right = np.linalg.eigh(a.swapaxes(-1, -2) @ a)
        singular = np.sqrt(np.maximum(squared, 0.0))
        kept = singular > NO_STRENGTH * np.maximum(singular[..., -1:], 1e-300)
        inverse = np.divide(1.0, singular, out=np.zeros_like(singular), where=kept)
        axes = inverse[..., None] * (right.swapaxes(-1, -2) @ a.swapaxes(-1, -2))
        strengths = np.where(kept, singular, 0.0)
        return cls(axes, strengths / np.maximum(np.linalg.norm(strengths, axis=-1, keepdims=True), 1e-300))

    def matrix(self) -> Doubles:
        """(..., d, d)."""
        return (self.axes.swapaxes(-1, -2) * self.strengths[..., None, :]) @ self.axes

    @property
    def along_identity(self) -> Doubles:
        """(...,) its part along I / |I|: the trace over the root of d."""
        return self.strengths.sum(axis=-1) / np.sqrt(self.axes.shape[-1])

    @property
    def rest(self) -> Doubles:
        """(...,) norm of what is left without that part."""
        return np.sqrt(np.maximum(1 - self.along_identity**2, 1e-12))

    def cosine(self, other: Root) -> Doubles:
        """(...,) of both `without_identity`, which is that of two embeddings; 0 where either is zero."""
        crossed = self.axes @ other.axes.swapaxes(-1, -2)  # (..., c, c')
        dots = ((crossed**2 * other.strengths[..., None, :]).sum(axis=-1) * self.strengths).sum(axis=-1)
        return (dots - self.along_identity * other.along_identity) / (self.rest * other.rest)


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
