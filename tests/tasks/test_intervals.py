"""Draws of rows are shared by the models that answered the same rows, and by no others."""

from __future__ import annotations

import numpy as np

from fute.methods.crosscov.intervals import Draws
from tasks.intervals import DRAWS_KEPT, _KeptDraws


def test_the_same_rows_are_drawn_once_and_others_anew() -> None:
    rng = np.random.default_rng(0)
    pool, *datasets = (rng.normal(size=(n, 3)) for n in (20, 20, 11, 12, 13))
    assert len(datasets) > DRAWS_KEPT
    drawn = _KeptDraws(5, seed=1)
    first = drawn(pool)
    for z in datasets:
        expected = Draws.of(z, times=5, seed=1)
        made = drawn(z)
        np.testing.assert_array_equal(made.z, expected.z)
        np.testing.assert_array_equal(made.counts, expected.counts)
        assert drawn(pool) is first
    assert len(drawn._kept) == DRAWS_KEPT
