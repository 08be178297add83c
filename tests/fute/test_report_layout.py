"""Where subjects stand, and in which order: properties, not pictures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fute.report.layout import angular_distances, cluster_order, map_positions
from fute.report.tsne import tsne

from .report_data import unit_vectors

MANY = tuple(f"task{i}" for i in range(12))


def distances(places: np.ndarray) -> np.ndarray:
    return np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=2))


@pytest.mark.parametrize("n", [2, 3, 4, 9, 25])
def test_a_planar_configuration_is_recovered_to_scale(n):
    planar = np.random.default_rng(n).uniform(0, 1.5, size=(n, 2))
    places = map_positions(np.cos(distances(planar)))
    np.testing.assert_allclose(distances(places), distances(planar), atol=1e-4)


def test_three_subjects_are_always_to_scale():
    vectors = np.random.default_rng(1).normal(size=(3, 9))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = map_positions(vectors @ vectors.T)
    np.testing.assert_allclose(distances(places), angular_distances(vectors @ vectors.T), atol=1e-5)


@pytest.mark.parametrize("tasks", [MANY[:2], MANY], ids=["to scale", "by neighbourhood"])
def test_the_order_of_the_subjects_does_not_move_them(tasks):
    vectors = unit_vectors(tasks)
    shuffle = np.random.default_rng(3).permutation(len(vectors))
    similarities = vectors @ vectors.T
    shuffled = vectors[shuffle] @ vectors[shuffle].T
    np.testing.assert_allclose(map_positions(shuffled), map_positions(similarities)[shuffle], atol=1e-6)


def test_the_same_similarities_give_the_same_bytes():
    vectors = unit_vectors(MANY)
    similarities = vectors @ vectors.T
    assert map_positions(similarities).tobytes() == map_positions(similarities.copy()).tobytes()


def test_positions_are_centred_on_their_principal_axes_with_positive_extremes():
    vectors = unit_vectors(MANY)
    places = map_positions(vectors @ vectors.T)
    np.testing.assert_allclose(places.mean(axis=0), 0, atol=1e-9)
    assert abs(np.cov(places.T)[0, 1]) < 1e-9 * np.trace(np.cov(places.T))
    assert places[:, 0].std() >= places[:, 1].std()
    assert (np.abs(places).max(axis=0) == places.max(axis=0)).all()


def test_the_two_models_of_a_task_stand_beside_its_dataset():
    shares = []
    for seed in range(5):
        vectors = unit_vectors(MANY, seed=seed)
        places = map_positions(vectors @ vectors.T)
        near = np.argsort(distances(places), axis=1)[:, 1:3]
        shares.append((near // 3 == np.arange(len(vectors))[:, None] // 3).mean())
    assert np.mean(shares) > 0.95


def test_without_subjects_or_with_one_there_is_nothing_to_place():
    assert map_positions(np.zeros((0, 0))).shape == (0, 2)
    assert map_positions(np.ones((1, 1))).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("n", [2, 3, 30])
def test_subjects_of_one_vector_get_one_place(n):
    assert not map_positions(np.ones((n, n))).any()


@pytest.mark.parametrize("tasks", [MANY[:2], MANY], ids=["to scale", "by neighbourhood"])
def test_twins_among_others_stand_together(tasks):
    vectors = unit_vectors(tasks).astype(np.float32)
    vectors[4] = vectors[1]
    places = map_positions(vectors @ vectors.T)
    assert np.isfinite(places).all()
    assert places[1].tolist() == places[4].tolist()
    assert len(np.unique(places, axis=0)) == len(vectors) - 1


def test_subjects_all_at_right_angles_are_spread_and_finite():
    places = map_positions(np.eye(20))
    assert np.isfinite(places).all()
    assert distances(places)[~np.eye(20, dtype=bool)].min() > 0


def test_what_is_not_square_or_not_finite_is_refused():
    with pytest.raises(ValueError, match="one row and one column"):
        map_positions(np.ones((2, 3)))
    with pytest.raises(ValueError, match="NaN"):
        cluster_order(np.array([[1.0, np.nan], [np.nan, 1.0]]))


def test_tsne_sets_a_stray_back_beside_its_own():
    # Two tight groups, and a member of the first that starts behind the second.
    points = np.concatenate([np.random.default_rng(0).normal(center, 0.05, size=(12, 2)) for center in (0.0, 3.0)])
    start = points.copy()
    start[0] = [6.0, 6.0]
    places = tsne(distances(points), start, perplexity=6.0)
    assert distances(places)[0, 1:12].max() < distances(places)[0, 12:].min()


def test_cluster_order_names_each_subject_once_and_keeps_groups_together():
    vectors = unit_vectors(MANY)
    shuffle = np.random.default_rng(5).permutation(len(vectors))
    order = cluster_order(vectors[shuffle] @ vectors[shuffle].T)
    assert sorted(order) == list(range(len(vectors)))
    groups = [int(shuffle[row]) // 3 for row in order]
    assert sum(a != b for a, b in itertools.pairwise(groups)) == len(MANY) - 1


def test_cluster_order_is_the_same_up_to_direction_for_shuffled_subjects():
    vectors = unit_vectors(MANY)
    shuffle = np.random.default_rng(6).permutation(len(vectors))
    plain = cluster_order(vectors @ vectors.T)
    shuffled = [int(shuffle[row]) for row in cluster_order(vectors[shuffle] @ vectors[shuffle].T)]
    assert shuffled in (plain, plain[::-1])


def test_cluster_order_beats_the_order_given():
    def broken(order: list[int], similarities: np.ndarray) -> float:
        return float(np.mean([1 - similarities[a, b] for a, b in itertools.pairwise(order)]))

    vectors = unit_vectors(MANY)[np.random.default_rng(7).permutation(36)]
    similarities = vectors @ vectors.T
    assert broken(cluster_order(similarities), similarities) < 0.6 * broken(list(range(36)), similarities)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_cluster_order_of_few_or_identical_subjects(n):
    assert sorted(cluster_order(np.ones((n, n)))) == list(range(n))
