"""The rival of benchmarks/align.py, and what is told of a ranking."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # scripts beside each other, not a package
from align import kept, orthogonal, told

pytestmark = pytest.mark.slow


def test_the_rival_recovers_a_rotation_of_the_span():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 10))
    turn = np.linalg.qr(rng.standard_normal((10, 10)))[0]
    np.testing.assert_allclose(orthogonal(a, a @ turn)(a), a @ turn, atol=1e-10)


def test_a_ranking_is_told_with_its_interval_and_as_a_share():
    hits = {"model to model": np.array([[True, True], [True, False]])}
    share, low, high = told(hits)["model to model"]
    assert (share, low <= share <= high) == (0.75, True)
    within = {"model to model": np.ones((2, 2), bool), "dataset to model": np.ones((2, 1), bool)}
    assert kept(hits, within) == 0.75
