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

TELLS = {50: 0.57, 100: 0.73, 200: 0.86, 300: 0.91, 1000: 0.98}
"""Rows asked about -> how often the right one came first, as a share of how often it does when all rows are asked."""
LABELS_TELL = {50: 0.35, 100: 0.49, 200: 0.64, 300: 0.73, 1000: 0.89}
"""The same of answers without probabilities, against all rows with them."""


def tells_of(rows: int, pool_rows: int, *, labels_only: bool) -> str:
    """In words, what so many rows of a pool tell."""
    known = LABELS_TELL if labels_only else TELLS
    share = float(np.interp(np.log(rows), np.log(list(known)), list(known.values())))
    alone = ", as labels without probabilities" if labels_only else ""
    return (
        f"asked about {rows:,} of the pool's {pool_rows:,} rows{alone}: of 29 real tasks the right one came first "
        f"{share:.2f} times as often as with all of 2,926 rows (docs/few_rows.md)"
    )


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
