"""Where subjects stand, how true the map is said to be, and in which groups: properties, not pictures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform

from fute.report.layout import _pca, angular_distances, cluster_tree, projections
from fute.report.types import Projection

from .report_data import unit_vectors

pytestmark = pytest.mark.kernels

MANY = tuple(f"task{i}" for i in range(12))


def distances(places: np.ndarray) -> np.ndarray:
    return np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=2))


def gram(tasks: tuple[str, ...] = MANY, **changes) -> np.ndarray:
    vectors = unit_vectors(tasks, **changes)
    return vectors @ vectors.T


def named(similarities: np.ndarray, name: str) -> Projection:
    return next(one for one in projections(similarities) if one.name == name)


def test_three_subjects_lie_true_to_scale():
    similarities = gram(("a",), dim=9)
    (flat,) = projections(similarities)
    np.testing.assert_allclose(distances(flat.places), np.sqrt(2 - 2 * np.clip(similarities, -1, 1)), atol=1e-5)
    assert flat.variance == pytest.approx(1)


@pytest.mark.parametrize("tasks", [MANY[:2], MANY], ids=["PCA alone", "with t-SNE"])
def test_the_order_of_the_subjects_does_not_move_them(tasks):
    similarities = gram(tasks)
    shuffle = np.random.default_rng(3).permutation(len(similarities))
    shuffled = projections(similarities[np.ix_(shuffle, shuffle)])
    for one, other in zip(projections(similarities), shuffled, strict=True):
        assert one.name == other.name
        np.testing.assert_allclose(other.places, one.places[shuffle], atol=1e-6)


def test_the_same_similarities_give_the_same_bytes():
    similarities = gram()
    for one, other in zip(projections(similarities), projections(similarities.copy()), strict=True):
        assert one.places.tobytes() == other.places.tobytes()


def test_positions_are_centred_on_their_principal_axes_with_positive_extremes():
    for one in projections(gram()):
        places = one.places
        np.testing.assert_allclose(places.mean(axis=0), 0, atol=1e-9 * np.abs(places).max())
        assert abs(np.cov(places.T)[0, 1]) < 1e-9 * np.trace(np.cov(places.T))
        assert places[:, 0].std() >= places[:, 1].std()
        assert (np.abs(places).max(axis=0) == places.max(axis=0)).all()


def test_the_two_models_of_a_task_stand_beside_its_dataset():
    shares = []
    for seed in range(5):
        places = named(gram(seed=seed), "t-SNE").places
        near = np.argsort(distances(places), axis=1)[:, 1:3]
        shares.append((near // 3 == np.arange(len(places))[:, None] // 3).mean())
    assert np.mean(shares) > 0.95


def test_the_map_comes_first_that_keeps_more_of_the_nearest():
    # Twelve tasks do not fit into a plane; a small piece of a sphere does.
    first, second = projections(gram())
    assert (first.name, second.name) == ("t-SNE", "PCA")
    assert first.kept[3] > second.kept[3]
    piece = np.c_[np.random.default_rng(0).normal(scale=0.05, size=(40, 2)), np.ones(40)]
    piece /= np.linalg.norm(piece, axis=1, keepdims=True)
    first, second = projections(piece @ piece.T)
    assert (first.name, second.name) == ("PCA", "t-SNE")
    assert first.kept[3] > 0.95


def test_the_share_of_nearest_kept_is_counted_one_by_one():
    similarities = gram()
    angles = angular_distances(similarities)
    for one in projections(similarities):
        lengths = distances(one.places)
        for k, share in one.kept.items():
            kept = 0
            for row in range(len(angles)):
                others = [other for other in range(len(angles)) if other != row]
                true, shown = (sorted(others, key=lambda o, d=d: d[row, o])[:k] for d in (angles, lengths))
                kept += len(set(true) & set(shown))
            assert share == pytest.approx(kept / (k * len(angles)))
        assert list(one.kept) == [3, 10]
        assert 0 < one.trust <= 1


@pytest.mark.parametrize(("n", "counted"), [(2, []), (3, [1]), (8, [3]), (12, [3, 5]), (30, [3, 10])])
def test_no_more_nearest_are_counted_than_trustworthiness_allows(n, counted):
    vectors = np.random.default_rng(n).normal(size=(n, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert all(list(one.kept) == counted for one in projections(vectors @ vectors.T))


def test_without_subjects_or_with_one_there_is_nothing_to_place():
    assert [one.places.shape for one in projections(np.zeros((0, 0)))] == [(0, 2)]
    assert [one.places.tolist() for one in projections(np.ones((1, 1)))] == [[[0.0, 0.0]]]


@pytest.mark.parametrize("n", [2, 3, 30])
def test_subjects_of_one_vector_get_one_place(n):
    assert not any(one.places.any() for one in projections(np.ones((n, n))))


@pytest.mark.parametrize("tasks", [MANY[:2], MANY], ids=["PCA alone", "with t-SNE"])
def test_twins_among_others_stand_together(tasks):
    vectors = unit_vectors(tasks).astype(np.float32)
    vectors[4] = vectors[1]
    for one in projections(vectors @ vectors.T):
        assert np.isfinite(one.places).all()
        assert one.places[1].tolist() == one.places[4].tolist()
        assert len(np.unique(one.places, axis=0)) == len(vectors) - 1


def test_subjects_all_at_right_angles_are_spread_and_finite():
    for one in projections(np.eye(20)):
        assert np.isfinite(one.places).all()
    assert distances(named(np.eye(20), "t-SNE").places)[~np.eye(20, dtype=bool)].min() > 0


def test_the_tree_names_each_subject_once_and_keeps_groups_together():
    similarities = gram()
    shuffle = np.random.default_rng(5).permutation(len(similarities))
    order = cluster_tree(similarities[np.ix_(shuffle, shuffle)]).order
    assert sorted(order) == list(range(len(similarities)))
    groups = [int(shuffle[row]) // 3 for row in order]
    assert sum(a != b for a, b in itertools.pairwise(groups)) == len(MANY) - 1


def test_the_merges_are_those_of_average_linkage_on_the_angles():
    similarities = gram()
    angles = squareform(angular_distances(similarities), checks=False)
    merges = cluster_tree(similarities).merges
    n = len(similarities)
    leaves: list[set[int]] = [{row} for row in range(n)]
    heights = np.zeros((n, n))
    for a, b, height in merges:
        for one, other in itertools.product(leaves[a], leaves[b]):
            heights[one, other] = heights[other, one] = height
        leaves.append(leaves[a] | leaves[b])
    np.testing.assert_allclose(squareform(heights), cophenet(linkage(angles, method="average")))
    # In the order of the leaves no branch crosses another.
    place = {row: at for at, row in enumerate(cluster_tree(similarities).order)}
    for group in leaves:
        assert max(place[row] for row in group) - min(place[row] for row in group) == len(group) - 1


def test_the_order_is_the_same_up_to_direction_for_shuffled_subjects():
    similarities = gram()
    shuffle = np.random.default_rng(6).permutation(len(similarities))
    plain = list(cluster_tree(similarities).order)
    shuffled = [int(shuffle[row]) for row in cluster_tree(similarities[np.ix_(shuffle, shuffle)]).order]
    assert shuffled in (plain, plain[::-1])


def test_the_order_beats_the_one_given():
    def broken(order, similarities: np.ndarray) -> float:
        return float(np.mean([1 - similarities[a, b] for a, b in itertools.pairwise(order)]))

    vectors = unit_vectors(MANY)[np.random.default_rng(7).permutation(36)]
    similarities = vectors @ vectors.T
    assert broken(cluster_tree(similarities).order, similarities) < 0.6 * broken(range(36), similarities)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_the_tree_of_few_or_identical_subjects(n):
    tree = cluster_tree(np.ones((n, n)))
    assert sorted(tree.order) == list(range(n))
    assert len(tree.merges) == max(0, n - 1)


# --------------------------------------------------------------------------------------------- degenerate similarities


def test_subjects_at_right_angles_have_places_and_keep_what_a_plane_keeps():
    """All eigenvalues are equal, so any plane is as good as another, but it must be one."""
    places, variance = _pca(np.eye(9))
    assert np.isfinite(places).all()
    assert variance == pytest.approx(2 / 8)
    assert (places**2).sum() == pytest.approx(2)


def test_subjects_that_are_all_alike_share_one_place():
    places, variance = _pca(np.zeros((5, 5)))
    np.testing.assert_array_equal(places, 0)
    assert variance == pytest.approx(1)
    for one in projections(np.ones((5, 5))):
        np.testing.assert_allclose(one.places, 0, atol=1e-9)


def test_subjects_on_a_line_lie_on_the_first_axis():
    ends = np.array([1.0, -1.0, 1.0, -1.0, 1.0, 1.0])
    places, variance = _pca(np.outer(ends, ends))
    assert variance == pytest.approx(1)
    np.testing.assert_allclose(places[:, 1], 0, atol=1e-7)
    np.testing.assert_allclose(distances(places), np.abs(ends[:, None] - ends), atol=1e-7)


@pytest.mark.parametrize("n", [2, 3, 11])
def test_right_angles_are_shown_on_every_map(n: int):
    for one in projections(np.eye(n)):
        assert np.isfinite(one.places).all()
        assert one.places.std() > 0
