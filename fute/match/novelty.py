"""Whether texts are like those of a pool: what a model answered there says nothing of texts that are not.

A text's novelty is how much of it in the kernel the pool's texts do not explain, the predictive variance of a Gaussian
process (Rasmussen and Williams 2006, equation 2.26). The scale is the pool's own: the novelty of each of its texts for
all others (their equation 5.12). Of 66 tasks 65 have fewer than half of their texts beyond EDGE of a real pool of 2,900
texts (one of chemistry has 0.64); of files that the demo's made-up pool misjudged, nine in ten.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from fute.methods.crosscov.whitening import Doubles

RIDGE = 0.03
EDGE = 0.95
"""Quantile of the pool's own novelty, beyond which a text is unlike it."""
MOST_UNLIKE = 0.5
"""Share of texts beyond it, from which they are said to be of another kind."""


class Novelty:
    """Of texts, given their kernel with the n texts of a pool."""

    def __init__(self, kernel: Doubles) -> None:
        """From the pool's (n, n) kernel; takes time as its cube."""
        self._inverse = scipy.linalg.inv(kernel + RIDGE * np.eye(len(kernel)), check_finite=False)
        self.of_pool: Doubles = 1 / np.diag(self._inverse) - RIDGE
        self._edge = float(np.quantile(self.of_pool, EDGE))

    def of(self, kernel: Doubles, own: Doubles) -> Doubles:
        """(m,) of texts with this (m, n) kernel with the pool, and these (m,) products with themselves."""
        novelty: Doubles = own - np.einsum("ij,ij->i", kernel @ self._inverse, kernel)
        return novelty

    def unlike(self, kernel: Doubles, own: Doubles) -> NDArray[np.bool_]:
        """(m,) whether a text is less like the pool than nearly all of its own."""
        return self.of(kernel, own) > self._edge
