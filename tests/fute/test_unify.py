"""References, one frame, and neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from fute.errors import SpaceError
from fute.methods.crosscov.symmetric import root_of_gram, to_matrix, to_vector
from fute.types import Kind
from fute.unify.frame import (
    NO_REFERENCE,
    GroupReference,
    Reference,
    Subject,
    make_reference,
    require_one_space,
    similarities,
    unify,
)
from fute.unify.neighbors import nearest_neighbors
from fute.unify.recentre import STRENGTH, mixing_matrix, recentre


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def population(
    n_datasets: int, *makes: tuple[str, int], dim: int = 6, seed: int = 0
) -> tuple[np.ndarray, list[Subject]]:
    rng = np.random.default_rng(seed)
    subjects = [Subject("dataset")] * n_datasets + [Subject("model", make) for make, n in makes for _ in range(n)]
    return unit(rng.normal(size=(len(subjects), dim)) + 2), subjects


def reference_of(
    vectors: np.ndarray, subjects: list[Subject], min_population: int, *, recentred: bool = False
) -> Reference:
    members = [str(i) for i in range(len(subjects))]
    return make_reference(1, vectors, subjects, members, min_population=min_population, recentred=recentred)


def test_each_group_loses_its_own_mean() -> None:
    vectors, subjects = population(5, ("tfidf", 4), ("prompt", 3))
    reference = reference_of(vectors, subjects, 3)
    assert set(reference.groups) == {"dataset", "model", "model: tfidf", "model: prompt"}
    unified = unify(vectors, subjects, reference)
    np.testing.assert_allclose(unified[:5], unit(vectors[:5] - vectors[:5].mean(axis=0)), atol=1e-5)
    np.testing.assert_allclose(unified[5:9], unit(vectors[5:9] - vectors[5:9].mean(axis=0)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(unified, axis=1), 1, atol=1e-5)


def test_where_all_models_are_of_one_make_their_references_are_the_same() -> None:
    vectors, subjects = population(3, ("tfidf", 4))
    vectors = np.stack([to_vector(root_of_gram(to_matrix(v))) for v in vectors.astype(np.float64)]).astype(np.float32)
    groups = reference_of(vectors, subjects, 3, recentred=True).groups
    assert set(groups) == {"dataset", "model", "model: tfidf"}
    alone = reference_of(vectors[3:], [Subject("model")] * 4, 3, recentred=True).groups["model"]
    for name in ("model", "model: tfidf"):
        assert groups[name].members == ("3", "4", "5", "6")
        np.testing.assert_array_equal(groups[name].mean, alone.mean)
        np.testing.assert_array_equal(groups[name].mixing, alone.mixing)


def test_a_make_with_few_models_takes_the_reference_of_all_models() -> None:
    vectors, subjects = population(0, ("tfidf", 8), ("prompt", 2))
    reference = reference_of(vectors, subjects, 8)
    assert set(reference.groups) == {"model", "model: tfidf"}
    unified = unify(vectors, subjects, reference)
    np.testing.assert_allclose(unified[8:], unit(vectors[8:] - vectors.mean(axis=0)), atol=1e-5)


def test_a_lone_dataset_borrows_the_models_reference_and_keeps_a_direction() -> None:
    vectors, subjects = population(1, ("tfidf", 9))
    reference = reference_of(vectors, subjects, 8)
    assert "dataset" not in reference.groups
    assert np.linalg.norm(unify(vectors, subjects, reference)[0]) == pytest.approx(1, abs=1e-5)
    assert "datasets borrow the models'" in reference.describe()


def test_a_small_population_is_left_as_it_is() -> None:
    vectors, subjects = population(1, ("tfidf", 3))
    reference = reference_of(vectors, subjects, 8)
    assert (reference.version, reference.describe()) == (0, "none")
    np.testing.assert_allclose(unify(vectors, subjects, NO_REFERENCE), vectors, atol=1e-6)


def test_adding_a_model_leaves_old_similarities_as_they_were() -> None:
    vectors, subjects = population(8, ("tfidf", 8))
    reference = reference_of(vectors, subjects, 8)
    before = similarities(unify(vectors, subjects, reference))
    more, new = population(0, ("tfidf", 1), seed=5)
    after = similarities(unify(np.vstack([vectors, more]), [*subjects, *new], reference))
    np.testing.assert_allclose(after[:16, :16], before, atol=1e-6)


def test_a_reference_of_another_length_is_refused() -> None:
    vectors, subjects = population(2, ("tfidf", 2))
    with pytest.raises(SpaceError, match="reference mean of 4"):
        unify(vectors, subjects, Reference(1, {"model": GroupReference(np.ones(4, dtype=np.float32))}))


def test_a_subject_that_is_the_mean_itself_is_similar_to_nobody() -> None:
    mean = np.array([1, 0, 0], dtype=np.float32)
    unified = unify(
        np.stack([mean, mean * 0 + 0.5]), [Subject("model")] * 2, Reference(1, {"model": GroupReference(mean)})
    )
    assert similarities(unified)[0].tolist() == [0, 0]


def test_two_spaces_are_refused_with_an_explanation() -> None:
    assert require_one_space(["a", "a"]) == "a"
    with pytest.raises(SpaceError, match=r"2 spaces \(a, b\).*no model is asked again"):
        require_one_space(["a", "b", "a"])


def crosscov_vector(a: np.ndarray) -> np.ndarray:
    return to_vector(root_of_gram(a)).astype(np.float32)


def test_recentring_is_what_multiplying_the_cross_covariance_gives() -> None:
    rng = np.random.default_rng(0)
    factors = [rng.normal(size=(6, 3)) for _ in range(5)]
    vectors = np.stack([crosscov_vector(a) for a in factors])
    # The slow way: from the matrices A themselves.
    mean = sum(a @ a.T / (a**2).sum() for a in factors) / len(factors)
    ridge = np.eye(6) * STRENGTH * np.trace(mean) / 6
    values, axes = np.linalg.eigh(mean + ridge)
    expected_mixing = (axes / np.sqrt(values / (np.trace(mean) / 6))) @ axes.T
    mixing = mixing_matrix(vectors)
    np.testing.assert_allclose(mixing, expected_mixing, atol=1e-5)
    for a, vector in zip(factors, vectors, strict=True):
        np.testing.assert_allclose(recentre(vector, mixing), crosscov_vector(expected_mixing @ a), atol=1e-5)


def test_recentring_by_the_identity_changes_nothing() -> None:
    vector = crosscov_vector(np.random.default_rng(1).normal(size=(5, 2)))
    np.testing.assert_allclose(recentre(vector, np.eye(5)), vector, atol=1e-5)


def test_a_common_lean_disappears_with_the_reference() -> None:
    rng = np.random.default_rng(2)
    tasks = [rng.normal(size=(8, 2)) for _ in range(10)]
    lean = {"tfidf": rng.normal(size=(8, 1)) * 4, "prompt": rng.normal(size=(8, 1)) * 4}
    made = [(task, make) for make in lean for task in range(10)]
    vectors = np.stack([crosscov_vector(np.hstack([tasks[t], lean[m]])) for t, m in made])
    subjects = [Subject("model", m) for _, m in made]

    def share_of_same_task(unified: np.ndarray) -> float:
        similarity = similarities(unified)
        np.fill_diagonal(similarity, -2)
        return float(np.mean([made[i][0] == made[j][0] for i, j in enumerate(similarity.argmax(axis=1))]))

    assert share_of_same_task(vectors) < 0.2
    assert share_of_same_task(unify(vectors, subjects, reference_of(vectors, subjects, 8, recentred=True))) == 1.0


def test_a_triangle_keeps_the_inner_products_of_matrices() -> None:
    rng = np.random.default_rng(3)
    one, other = (m @ m.T for m in rng.normal(size=(2, 5, 5)))
    assert to_vector(one) @ to_vector(other) == pytest.approx(np.trace(one @ other))
    np.testing.assert_allclose(to_matrix(to_vector(one)), one)
    with pytest.raises(ValueError, match="no triangle"):
        to_matrix(np.ones(5))


def test_neighbours_are_ranked_by_score_and_exclude_the_query() -> None:
    kinds: list[Kind] = ["dataset", "model", "model", "model"]
    similarity = np.array([[1, 0.2, 0.9, 0.9], [0.2, 1, 0.5, 0], [0.9, 0.5, 1, 0], [0.9, 0, 0, 1]], dtype=np.float32)
    found = nearest_neighbors(similarity, kinds, limit=2)
    of_dataset = [(n.candidate, n.rank) for n in found if n.query == 0]
    assert of_dataset == [(2, 1), (3, 2)]  # equal scores keep the subjects' order
    assert not [n for n in found if n.query == n.candidate]
    assert [n.candidate for n in found if n.query == 1 and kinds[n.candidate] == "model"] == [2, 3]
