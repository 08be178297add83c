"""The pool's principal components, whitened: the axes of every crosscov embedding of a space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fute.errors import MethodError
from fute.types import Floats

Doubles = NDArray[np.float64]


def unit_rows(features: Floats) -> Doubles:
    """Rows of length 1; a zero row stays zero."""
    doubles = features.astype(np.float64)
    norms = np.linalg.norm(doubles, axis=1, keepdims=True)
    return np.divide(doubles, norms, out=np.zeros_like(doubles), where=norms > 0)


SMALL_SOURCE = 5
"""Sources with fewer rows are centred together: a mean of so few is mostly the rows themselves."""


def source_groups(source_ids: NDArray[np.str_]) -> NDArray[np.intp]:
    """(n,) source of each row as a number; all small sources share one."""
    _, groups, sizes = np.unique(source_ids, return_inverse=True, return_counts=True)
    return np.where(sizes[groups] < SMALL_SOURCE, len(sizes), groups)


def centred_within(values: Doubles, groups: NDArray[np.intp]) -> Doubles:
    """(n, k) with the mean of each row's group subtracted."""
    # In the order of the rows, as np.add.at adds them, to the last digit; this takes a fraction of its time.
    sums = np.column_stack([np.bincount(groups, column) for column in values.T])
    return values - (sums / np.maximum(np.bincount(groups), 1)[:, None])[groups]


@dataclass(frozen=True, eq=False)
class Whitening:
    """Centre, project on the leading components, divide by the square root of eigenvalue + ridge.

    Attributes:
        mean: (width,) of the pool's unit features.
        projection: (width, d).
    """

    mean: Doubles
    projection: Doubles

    @classmethod
    def fit(cls, features: Floats, components: int, ridge: float, groups: NDArray[np.intp]) -> Whitening:
        """Fit on what varies within the sources of the pool.

        Args:
            features: (n, width).
            groups: (n,) source of each row.

        Raises:
            MethodError: fewer than two distinct rows.
        """
        unit = unit_rows(features)
        mean = unit.mean(axis=0)
        centred = centred_within(unit, groups)
        eigenvalues, eigenvectors = np.linalg.eigh(centred.T @ centred / len(centred))
        kept = min(components, len(features) - 1, features.shape[1])
        if kept < 1 or eigenvalues[-1] <= 1e-12:  # less than rounding leaves
            raise MethodError(
                f"a pool of {len(features)} rows has no spread to measure; give at least two different texts"
            )
        eigenvalues, eigenvectors = eigenvalues[::-1][:kept], eigenvectors[:, ::-1][:, :kept]
        # An eigenvector's sign is arbitrary; the embedding does not depend on it, but stored vectors should not differ
        # between linear algebra libraries.
        signs = np.sign(eigenvectors[np.abs(eigenvectors).argmax(axis=0), np.arange(kept)])
        scale = 1.0 / np.sqrt(np.maximum(eigenvalues, 0.0) + ridge * eigenvalues[0])
        return cls(mean, eigenvectors * signs * scale)

    def apply(self, features: Floats, *, centre: Doubles | None = None) -> Doubles:
        """(n, width) -> (n, d). `centre` replaces the pool's mean, for a dataset that is centred on its own texts."""
        return (unit_rows(features) - (self.mean if centre is None else centre)) @ self.projection
