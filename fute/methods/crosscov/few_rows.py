"""A model that was asked about some rows of the pool: its A, with the missing answers completed.

The pool's features are known for all rows. Kernel ridge regression of the answers on them completes the others, and
Z'Y/n of completed answers is linear in those given: A = R'Y/m, with regressors R that take the place of the features.
So whatever takes (features, outputs) takes these: the root, the bootstrap, the chance that outputs are unrelated.

Of the plain Z'Y/m of m rows most is noise: that these rows' features are not white, and axes along which hardly any
task lies. How much this tells, and what else was tried: benchmarks/few_rows.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fute.methods.crosscov.whitening import Doubles, unit_rows
from fute.types import Floats

RIDGE = 0.1
"""As a multiple of the kernel's mean diagonal. Of 0.03, 0.1 and 0.3 the best, or close to it, with 100 and 300 rows."""


class Completion:
    """Regressors of rows of one pool; those of the rows asked last are kept, for most models are asked the same."""

    def __init__(self, features: Floats, z: Doubles) -> None:
        """From (n, width) features of the pool and the (n, d) whitened ones, centred within sources."""
        unit = unit_rows(features)
        unit -= unit.mean(axis=0)
        self._unit = unit / np.sqrt(max(float((unit**2).sum(axis=1).mean()), 1e-300))
        self._onto_axes = self._unit.T @ z / len(z)  # (width, d)
        self._last: tuple[bytes, Doubles] = b"", np.empty((0, 0))

    def regressors(self, rows: NDArray[np.intp]) -> Doubles:
        """(m, d) for the m rows with an answer, with mean 0: a constant answer has no A."""
        key = rows.tobytes()
        if self._last[0] != key:
            asked = self._unit[rows]
            inverse = np.linalg.inv(asked @ asked.T + RIDGE * np.eye(len(rows)))
            sums = inverse.sum(axis=0)
            inverse -= np.outer(sums, sums) / sums.sum()  # the answers' mean is fitted, and not drawn to 0
            self._last = key, len(rows) * (inverse @ (asked @ self._onto_axes))
        return self._last[1]
