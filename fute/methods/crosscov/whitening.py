"""The pool's principal components, whitened: the axes of every crosscov embedding of a space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fute.errors import MethodError
from fute.types import Floats

Doubles = NDArray[np.float64]


def unit_rows(features: NDArray[np.floating]) -> Doubles:
    """Rows of length 1; a zero row stays zero."""
    doubles = features.astype(np.float64)
    norms = np.linalg.norm(doubles, axis=1, keepdims=True)
    return np.divide(doubles, norms, out=np.zeros_like(doubles), where=norms > 0)


AXES_PER_ROOT = 7.0
NO_VARIANCE = 1e-9  # of the largest eigenvalue: float32 features leave about 1e-14 where there is none

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


def carried_axes(rows: int, groups: int) -> int:
    """Axes that so many rows carry, centred within so many groups: never more than their rank.

    Well before the rank is reached further axes hurt, for a covariance with few rows is mostly noise along them.
    Of 3, 5 and 7 times the root of the rows, on the 29 tasks of benchmarks/retrieval.py: with 1,000 rows 7 was best
    (dataset to model 0.93, against 0.86), with 300 rows 5 and 7 were alike, with 100 rows 5 was better (0.83, against
    0.76); one rule for all.
    """
    return max(1, min(rows - groups, round(AXES_PER_ROOT * rows**0.5)))


def whole_axes(eigenvalues: Doubles, most: int) -> int:
    """How many leading axes to keep: those with variance, and of equal ones all or none.

    Axes without variance are any vectors of the null space, and axes of one eigenvalue any basis of their plane: which
    ones depends on the number of threads and on the BLAS kernel. All of a plane say the same in every basis.

    Args:
        eigenvalues: descending, the first positive.
        most: wanted at most; more are kept only where the first plane is larger.
    """
    varying = int((eigenvalues > NO_VARIANCE * eigenvalues[0]).sum())
    if most >= varying:
        return varying
    gaps = np.flatnonzero(eigenvalues[: varying - 1] - eigenvalues[1:varying] > NO_VARIANCE * eigenvalues[0]) + 1
    ends = [*gaps.tolist(), varying]
    return max((end for end in ends if end <= most), default=ends[0])


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
            components: axes at most; fewer where the rows carry fewer (`carried_axes`) or have no variance.
            groups: (n,) source of each row.

        Raises:
            MethodError: fewer than two distinct rows.
        """
        unit = unit_rows(features)
        mean = unit.mean(axis=0)
        centred = centred_within(unit, groups)
        eigenvalues, eigenvectors = np.linalg.eigh(centred.T @ centred / len(centred))
        eigenvalues, eigenvectors = np.maximum(eigenvalues[::-1], 0.0), eigenvectors[:, ::-1]
        if eigenvalues[0] <= 1e-12:  # less than rounding leaves
            raise MethodError(
                f"a pool of {len(features)} rows has no spread to measure; give at least two different texts"
            )
        kept = whole_axes(eigenvalues, min(components, carried_axes(len(features), len(np.unique(groups)))))
        eigenvalues, eigenvectors = eigenvalues[:kept], eigenvectors[:, :kept]
        # An eigenvector's sign is arbitrary; the embedding does not depend on it, but stored vectors should not differ
        # between linear algebra libraries.
        signs = np.sign(eigenvectors[np.abs(eigenvectors).argmax(axis=0), np.arange(kept)])
        return cls(mean, eigenvectors * signs / np.sqrt(eigenvalues + ridge * eigenvalues[0]))

    def apply(self, features: Floats, *, centre: Doubles | None = None) -> Doubles:
        """(n, width) -> (n, d). `centre` replaces the pool's mean, for a dataset that is centred on its own texts."""
        return (unit_rows(features) - (self.mean if centre is None else centre)) @ self.projection
