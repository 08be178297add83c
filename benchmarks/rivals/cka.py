"""Outputs alone: debiased centred kernel alignment of what two models answer to the same texts.

Kornblith et al. 2019 (arXiv 1905.00414) with the unbiased estimate of Song et al. 2012 (JMLR 13), as Nguyen et al. 2021
(arXiv 2010.15327) use it; linear kernels, so that it sees outputs up to a rotation, and needs no names of classes. A
dataset has no answers on the pool, so of datasets it says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def debiased_cka(ones: Sequence[Doubles], others: Sequence[Doubles]) -> Doubles:
    """(a, b) of outputs (n, classes) each; 0 where a model says the same of every text."""
    own = np.array([hsic(x, x) for x in ones]), np.array([hsic(x, x) for x in others])
    crossed = np.array([[hsic(x, y) for y in others] for x in ones])
    scale = np.sqrt(np.maximum(own[0][:, None] * own[1], 0.0))
    return np.divide(crossed, scale, out=np.zeros_like(crossed), where=scale > 1e-18)


def hsic(x: Doubles, y: Doubles) -> float:
    """Unbiased HSIC of linear kernels K = xx' and L = yy' without their diagonals, without (n, n) matrices."""
    n = len(x)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)  # HSIC does not change, and rounding is less
    own_x, own_y = (x**2).sum(axis=1), (y**2).sum(axis=1)
    both = float(((x.T @ y) ** 2).sum() - own_x @ own_y)  # tr(KL)
    rows_x, rows_y = x @ x.sum(axis=0) - own_x, y @ y.sum(axis=0) - own_y  # K1, L1
    total = rows_x.sum() * rows_y.sum() / ((n - 1) * (n - 2))
    return float((both + total - 2 * (rows_x @ rows_y) / (n - 2)) / (n * (n - 3)))
