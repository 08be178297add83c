"""Vectors of one space in another: against an independent slow version, and what must hold of any map."""

from __future__ import annotations

import numpy as np
import pytest

from fute.align import FAITHFUL, Alignment, covariance_from, map_of, mapped
from fute.errors import SpaceError
from fute.methods.crosscov.root import Root, cross_covariance, to_vector, without_identity
from fute.methods.crosscov.whitening import Whitening
from fute.unify.frame import Frame

pytestmark = pytest.mark.kernels

N, D_A, D_B, C = 200, 12, 9, 3


def vector_of(a: np.ndarray) -> np.ndarray:
    return to_vector(without_identity(Root.of(a).matrix())).astype(np.float32)


def whitened(features: np.ndarray) -> np.ndarray:
    groups = np.zeros(len(features), dtype=np.intp)
    whitening = Whitening.fit(features.astype(np.float32), features.shape[1], 1e-3, groups)
    return whitening.apply(features.astype(np.float32))


@pytest.fixture
def texts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of two surrogates that see much the same, and outputs linear in the first's."""
    rng = np.random.default_rng(5)
    features = rng.standard_normal((N, D_A))
    za = whitened(features)
    zb = whitened(features @ rng.standard_normal((D_A, D_B)) + 0.1 * rng.standard_normal((N, D_B)))
    return za, zb, za @ rng.standard_normal((D_A, C))


def test_a_mapped_vector_is_what_the_slow_way_gives(texts: tuple[np.ndarray, ...]) -> None:
    za, zb, y = texts
    a = cross_covariance(za, y)
    matrix = zb.T @ za @ np.linalg.inv(za.T @ za)
    there = matrix @ a @ a.T @ matrix.T
    values, axes = np.linalg.eig(there)
    root = sum(np.sqrt(max(v.real, 0)) * np.outer(x.real, x.real) for v, x in zip(values, axes.T, strict=True))
    root = root - np.trace(root) / len(root) * np.eye(len(root))
    slow = np.array(
        [root[i, j] * (1 if i == j else 2**0.5) for i in range(len(root)) for j in range(i, len(root))]
    ) / np.linalg.norm(root)
    found = mapped(map_of(za, zb), [vector_of(a)])[0]
    np.testing.assert_allclose(found, slow, atol=2e-5)


def test_outputs_that_both_see_map_to_the_other_space_own_vector(texts: tuple[np.ndarray, ...]) -> None:
    za, zb, y = texts
    found = mapped(map_of(za, zb), [vector_of(cross_covariance(za, y))])[0]
    np.testing.assert_allclose(found, vector_of(cross_covariance(zb, y)), atol=2e-3)


def test_a_space_mapped_into_itself_is_as_it_was(texts: tuple[np.ndarray, ...]) -> None:
    za, _, y = texts
    matrix = map_of(za, za)
    np.testing.assert_allclose(matrix, np.eye(D_A), atol=1e-9)
    own = vector_of(cross_covariance(za, y))
    np.testing.assert_allclose(mapped(matrix, [own])[0], own, atol=1e-5)


def test_rotated_features_are_recovered(texts: tuple[np.ndarray, ...]) -> None:
    za, _, y = texts
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((D_A, D_A)))[0]
    matrix = map_of(za, za @ rotation)
    np.testing.assert_allclose(matrix, rotation.T, atol=1e-9)
    found = mapped(matrix, [vector_of(cross_covariance(za, y))])[0]
    np.testing.assert_allclose(found, vector_of(cross_covariance(za @ rotation, y)), atol=1e-5)


def test_the_order_of_the_texts_does_not_matter(texts: tuple[np.ndarray, ...]) -> None:
    za, zb, _ = texts
    order = np.random.default_rng(2).permutation(N)
    np.testing.assert_allclose(map_of(za[order], zb[order]), map_of(za, zb), atol=1e-10)


def test_a_vector_gives_its_covariance_back_up_to_scale(texts: tuple[np.ndarray, ...]) -> None:
    za, _, y = texts
    a = cross_covariance(za, y)
    columns = covariance_from(vector_of(a))
    assert columns.shape == (D_A, C)
    product, other = columns @ columns.T, a @ a.T
    np.testing.assert_allclose(product / np.linalg.norm(product), other / np.linalg.norm(other), atol=1e-5)


def test_vectors_of_another_space_are_refused(texts: tuple[np.ndarray, ...]) -> None:
    za, zb, y = texts
    with pytest.raises(SpaceError, match="9 axes, but a map of 12"):
        mapped(map_of(za, zb), [vector_of(cross_covariance(zb, y))])


def pseudo(noise: float, tasks: int = 40) -> tuple[Frame, dict[str, np.ndarray]]:
    """A frame, and its pseudo-tasks as another space has them, with so much noise."""
    rng = np.random.default_rng(3)
    datasets = rng.standard_normal((tasks, 30)) + 0.3
    models = datasets + 0.3 * rng.standard_normal((tasks, 30))
    frame = Frame.of(datasets.astype(np.float32), models.astype(np.float32))
    noisy = {
        name: (values + noise * rng.standard_normal(values.shape)).astype(np.float32)
        for name, values in (("datasets", datasets), ("models", models))
    }
    return frame, noisy


def test_a_space_aligned_with_itself_is_wholly_faithful() -> None:
    frame, same = pseudo(0.0)
    alignment = Alignment.of(np.eye(3), frame, same)
    assert alignment.fidelity == 1.0
    assert alignment.require_faithful() is alignment
    placed = alignment.mapped.pseudo
    own = alignment.scores(placed["dataset"], "dataset", frame.pseudo["model"], "model")
    assert (own.argmax(axis=1) == np.arange(40)).mean() == frame.own_first["dataset", "model"]


def test_spaces_that_see_other_things_are_refused_with_the_figure() -> None:
    frame, noisy = pseudo(20.0)
    alignment = Alignment.of(np.eye(3), frame, noisy)
    assert alignment.fidelity < FAITHFUL
    with pytest.raises(SpaceError, match=rf"fidelity is {alignment.fidelity:.2f}, and 0.5 is needed"):
        alignment.require_faithful()


def test_scores_between_spaces_have_chance_at_zero() -> None:
    frame, noisy = pseudo(1.0)
    alignment = Alignment.of(np.eye(3), frame, noisy)
    scores = alignment.scores(alignment.mapped.pseudo["model"], "model", frame.pseudo["model"], "model")
    unrelated = scores[~np.eye(40, dtype=bool)]
    assert abs(float(unrelated.mean())) < 0.3
    assert 0.7 < float(unrelated.std()) < 1.3
    assert alignment.mapped.nulls["dataset", "model"].pairs == 40 * 39
