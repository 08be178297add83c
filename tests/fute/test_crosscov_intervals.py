"""Resampled similarities against the embedding itself, gone through row by row."""

from __future__ import annotations

import numpy as np
import pytest

from fute.methods.crosscov.intervals import DRAWS_KEPT, Bootstrap, Draws, interval, resample
from fute.methods.crosscov.root import Root, cross_covariance, to_matrix, to_vector, without_identity

pytestmark = pytest.mark.kernels

RNG = np.random.default_rng(0)
N, D = 30, 5
Z = RNG.normal(size=(N, D))
Y = RNG.random((N, 3)) + Z[:, :3]
OTHER = RNG.random((N, 2)) + Z[:, 1:3]
MEAN = to_vector(without_identity(Root.of(RNG.normal(size=(D, D))).matrix())) * 0.6
NONE = np.zeros((D, D))


def embedded(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    return to_vector(without_identity(Root.of(cross_covariance(z, y)).matrix()))


def slow_cosines(y1: np.ndarray, y2: np.ndarray, mean: np.ndarray) -> np.ndarray:
    weights = np.random.default_rng(7).multinomial(N, np.full(N, 1 / N), size=4)
    found = []
    for w in weights:
        rows = np.repeat(np.arange(N), w)
        vectors = [embedded(Z[rows], y[rows]) - mean for y in (y1, y2)]
        found.append(vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1]))
    return np.array(found)


@pytest.mark.parametrize("mean", [0 * MEAN, MEAN])
def test_resampled_cosines_are_those_of_resampled_rows(mean: np.ndarray) -> None:
    matrix = to_matrix(mean)
    draws = Draws.of(Z, times=4, seed=7)
    one, other = (resample(draws, y, matrix) for y in (Y, OTHER))
    np.testing.assert_allclose(one.cosines(other), slow_cosines(Y, OTHER, mean), atol=1e-6)


@pytest.mark.parametrize("likeness", [0.0, 0.9, 1.0])
def test_intervals_of_probabilities_are_those_of_resampled_rows_in_doubles(likeness: float) -> None:
    """Many columns that add up to 1, of which one is spared; alike, apart, and the same."""
    rng = np.random.default_rng(3)
    columns = np.exp(rng.normal(size=(N, 7)))
    y1 = columns / columns.sum(axis=1, keepdims=True)
    columns = np.exp(rng.normal(size=(N, 4)))
    columns = np.hstack([columns / columns.sum(axis=1, keepdims=True), np.zeros((N, 3))])
    y2 = likeness * y1 + (1 - likeness) * columns
    draws = Draws.of(Z, times=4, seed=7)
    one, other = (resample(draws, y, to_matrix(MEAN)) for y in (y1, y2))
    assert one.root.axes.shape == (4, 6, D)
    slow = slow_cosines(y1, y2, MEAN)
    np.testing.assert_allclose(one.cosines(other), slow, atol=1e-6)
    score = float(slow.mean())
    np.testing.assert_allclose(interval(score, one.cosines(other)), interval(score, slow), atol=5e-6)


def test_outputs_of_lower_rank_than_columns_are_handled() -> None:
    doubled = np.hstack([Y, Y[:, :1]])
    one = resample(Draws.of(Z, times=4, seed=7), doubled, NONE)
    np.testing.assert_allclose(one.cosines(one), 1, atol=1e-6)


def test_the_interval_holds_the_score_and_narrows_with_more_rows() -> None:
    widths = []
    for n in (60, 600):
        rng = np.random.default_rng(1)
        z = rng.normal(size=(n, D))
        draws = Draws.of(z, times=200, seed=0)
        one, other = (resample(draws, z[:, :2] + rng.normal(size=(n, 2)), NONE) for _ in range(2))
        cosines = one.cosines(other)
        low, high = interval(0.8, cosines)
        assert (low + high) / 2 == pytest.approx(0.8)
        assert high - low == pytest.approx(2 * 1.96 * cosines.std(ddof=1), rel=1e-4)
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_intervals_cover_the_true_similarity_about_as_often_as_they_say() -> None:
    """Draws from a known population: the similarity of a very large sample stands in for the truth."""
    rng = np.random.default_rng(2)
    w1, w2 = rng.normal(size=(D, 2)), rng.normal(size=(D, 2))

    def draw(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        z = rng.normal(size=(n, D))
        return z, z @ w1 + rng.normal(size=(n, 2)), z @ w2 + rng.normal(size=(n, 2))

    def similarity(z: np.ndarray, y1: np.ndarray, y2: np.ndarray) -> float:
        one, other = (embedded(z, y) for y in (y1, y2))
        return float(one @ other)

    truth = similarity(*draw(200_000))
    covered = []
    for trial in range(100):
        z, y1, y2 = draw(400)
        draws = Draws.of(z, times=100, seed=trial)
        one, other = (resample(draws, y, NONE) for y in (y1, y2))
        cosines = one.cosines(other)
        low, high = interval(similarity(z, y1, y2), cosines)
        covered.append(low <= truth <= high)
    assert 0.85 <= np.mean(covered) <= 1.0


def test_the_same_rows_are_drawn_once_and_others_anew() -> None:
    rng = np.random.default_rng(0)
    pool, *datasets = (rng.normal(size=(n, 3)) for n in (20, 20, 11, 12, 13))
    assert len(datasets) > DRAWS_KEPT
    bootstrap = Bootstrap(lambda _: (Z, Y), lambda _: (Z, Y), NONE, times=5, seed=1)
    first = bootstrap.draws(pool)
    for z in datasets:
        expected = Draws.of(z, times=5, seed=1)
        made = bootstrap.draws(z)
        np.testing.assert_array_equal(made.z, expected.z)
        np.testing.assert_array_equal(made.counts, expected.counts)
        assert bootstrap.draws(pool) is first
    assert len(bootstrap._drawn) == DRAWS_KEPT
