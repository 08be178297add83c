"""crosscov against an independent slow version, and its invariances."""

from __future__ import annotations

import numpy as np
import pytest

from fute.errors import MethodError, OutputsError
from fute.fingerprint import fingerprint_texts
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov, cross_covariance, targets_as_outputs
from fute.methods.crosscov.whitening import source_groups
from fute.types import Dataset, Outputs, Pool, Split, TextTable

N, WIDTH, D = 40, 7, 5
TEXTS = [f"text {i}" for i in range(N)]


def features(table: TextTable) -> np.ndarray:
    """Features that depend on each text alone, however the rows are ordered."""
    rows = [np.random.default_rng(int(fingerprint_texts([[t]])[:8], 16)).normal(size=WIDTH) for t in table.texts]
    return np.array(rows, dtype=np.float32)


POOL = Pool(TextTable(TEXTS), ["s"] * N)


def opened(pool: Pool = POOL, **settings: object) -> Crosscov:
    return Crosscov(CrosscovConfig(components=D, **settings), features, pool)


def probabilities(seed: int = 0, classes: int = 3) -> np.ndarray:
    raw = np.random.default_rng(seed).random((N, classes))
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


def slow_vector(y: np.ndarray, ridge: float = 1e-3) -> np.ndarray:
    """DESIGN's formulas, with loops and a matrix square root by eigenvalues."""
    x = features(POOL.inputs).astype(float)
    x = np.array([row / np.sqrt(sum(v * v for v in row)) for row in x])
    x -= x.mean(axis=0)
    covariance = sum(np.outer(row, row) for row in x) / N
    values, axes = np.linalg.eig(covariance)
    order = np.argsort(values.real)[::-1][:D]
    values, axes = values.real[order], axes.real[:, order]
    z = np.array([[row @ axes[:, k] / np.sqrt(values[k] + ridge * values[0]) for k in range(D)] for row in x])
    y = y - y.mean(axis=0)
    a = sum(np.outer(z[i] - z.mean(axis=0), y[i]) for i in range(N)) / N
    gram_values, gram_axes = np.linalg.eigh(a @ a.T)
    # In the features' own axes, where the sign of a component does not show.
    root = axes @ (gram_axes @ np.diag(np.sqrt(np.maximum(gram_values, 0))) @ gram_axes.T) @ axes.T
    return root / np.linalg.norm(root)


def test_similarities_match_a_slow_independent_version() -> None:
    space = opened()
    outputs = [probabilities(seed, classes) for seed, classes in ((0, 3), (1, 2), (2, 4))]
    fast = np.stack([space.model(Outputs("probabilities", y)).vector for y in outputs])
    slow = np.stack([slow_vector(y.astype(float)).ravel() for y in outputs])
    np.testing.assert_allclose(fast @ fast.T, slow @ slow.T, rtol=1e-5)


def test_what_differs_only_between_sources_is_no_task() -> None:
    sources = ["a", "b"] * (N // 2)
    space = opened(Pool(POOL.inputs, sources))
    within = probabilities()
    between = np.where(np.array(sources)[:, None] == "a", 0.3, 0.0)
    both = (within + between).astype(np.float32)
    vectors = [space.model(Outputs("scores", y)).vector for y in (within, both)]
    np.testing.assert_allclose(*vectors, atol=1e-5)
    with pytest.raises(MethodError, match="no covariance"):
        space.model(Outputs("scores", (between * 2).astype(np.float32)))


def test_small_sources_are_centred_together() -> None:
    assert len(set(source_groups(np.array([f"s{i}" for i in range(6)])))) == 1
    groups = source_groups(np.array(["big"] * 6 + ["one", "two"]))
    assert groups[6] == groups[7] != groups[0]


def test_the_order_of_labels_does_not_matter() -> None:
    space, y = opened(), probabilities()
    np.testing.assert_allclose(space.model(Outputs("probabilities", y)).vector,
                               space.model(Outputs("probabilities", y[:, [2, 0, 1]])).vector, atol=1e-6)  # fmt: skip


def test_the_order_of_pool_rows_does_not_matter() -> None:
    order = np.random.default_rng(1).permutation(N)
    shuffled = opened(Pool(POOL.inputs.take(order), ["s"] * N))
    y = probabilities()
    one = opened().model(Outputs("probabilities", y)).vector
    other = shuffled.model(Outputs("probabilities", y[order])).vector
    assert one @ other == pytest.approx(1, abs=1e-5)


def test_scale_and_shift_of_scores_do_not_matter() -> None:
    space, y = opened(), probabilities()
    vectors = [space.model(Outputs("scores", scores)).vector for scores in (y, 7 * y + 3)]
    np.testing.assert_allclose(*vectors, atol=1e-5)


def test_rows_without_an_answer_do_not_count() -> None:
    y, answered = probabilities(), np.arange(N) % 4 != 0
    emptied = np.where(answered[:, None], y, 0).astype(np.float32)
    garbage = np.where(answered[:, None], y, 9).astype(np.float32)
    space = opened()
    np.testing.assert_array_equal(space.model(Outputs("probabilities", emptied, answered=answered)).vector,
                                  space.model(Outputs("probabilities", garbage, answered=answered)).vector)  # fmt: skip


def test_a_dataset_and_a_model_that_answers_its_labels_get_the_same_vector() -> None:
    labels = np.random.default_rng(4).integers(0, 3, N)
    dataset = Dataset("d", "classification", {"train": Split(POOL.inputs, labels)}, "f")
    space = opened()
    answers = Outputs("labels", np.eye(3, dtype=np.float32)[labels])
    np.testing.assert_allclose(space.dataset(dataset).vector, space.model(answers).vector, atol=1e-6)


def test_regression_and_span_targets_become_numbers() -> None:
    inputs = TextTable(["q"] * 2, ["0123456789", "01234"])
    regression = Dataset("r", "regression", {"train": Split(inputs, np.array([0.5, 2.0], dtype=np.float32))}, "f")
    assert targets_as_outputs(regression).tolist() == [[0.5], [2.0]]
    spans = Dataset("s", "span_qa", {"train": Split(inputs, np.array([[2, 5], [-1, -1]]))}, "f")
    np.testing.assert_allclose(targets_as_outputs(spans), [[1, 0.2, 0.5], [0, 0, 0]])


def test_weights_count_rows_as_often_as_repeating_them() -> None:
    rng = np.random.default_rng(5)
    z, y, weights = rng.normal(size=(6, 3)), rng.normal(size=(6, 2)), np.array([2, 0, 1, 1, 3, 1])
    repeated = np.repeat(np.arange(6), weights)
    np.testing.assert_allclose(
        cross_covariance(z, y, weights.astype(float)), cross_covariance(z[repeated], y[repeated])
    )


def test_a_constant_model_is_refused() -> None:
    with pytest.raises(OutputsError, match="constant"):
        opened().model(Outputs("probabilities", np.full((N, 2), 0.5, dtype=np.float32)))


def test_a_pool_of_one_text_is_refused() -> None:
    with pytest.raises(MethodError, match="two different texts"):
        opened(Pool(TextTable(["same"] * 5), ["s"] * 5))
