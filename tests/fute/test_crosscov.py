"""crosscov against an independent slow version, and its invariances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fute.errors import MethodError, OutputsError
from fute.fingerprint import fingerprint_texts
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import (
    Crosscov,
    chance_of_covariance,
    embedding_of,
    targets_as_outputs,
)
from fute.methods.crosscov.root import Root, cross_covariance, without_identity
from fute.methods.crosscov.whitening import centred_within, source_groups
from fute.space import METHOD_VERSIONS
from fute.spans import pack_spans
from fute.types import Dataset, Outputs, Pool, Split, TextTable

pytestmark = pytest.mark.kernels

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
    root = gram_axes @ np.diag(np.sqrt(np.maximum(gram_values, 0))) @ gram_axes.T
    root -= np.diag([sum(root[k, k] for k in range(D)) / D] * D)
    # In the features' own axes, where the sign of a component does not show.
    root = axes @ root @ axes.T
    return root / np.linalg.norm(root)


def test_similarities_match_a_slow_independent_version() -> None:
    space = opened()
    outputs = [probabilities(seed, classes) for seed, classes in ((0, 3), (1, 2), (2, 4))]
    fast = np.stack([space.model(Outputs("probabilities", y)).vector for y in outputs])
    slow = np.stack([slow_vector(y.astype(float)).ravel() for y in outputs])
    np.testing.assert_allclose(fast @ fast.T, slow @ slow.T, rtol=1e-5)


def slow_space(groups: list[str]) -> tuple[list[np.ndarray], np.ndarray]:
    """The pool's unit features, and the map from features to whitened components, fitted within sources by loops."""
    unit = [row / np.sqrt(sum(v * v for v in row)) for row in features(POOL.inputs).astype(float)]
    centred = slow_centred(unit, groups)
    values, axes = np.linalg.eigh(sum(np.outer(row, row) for row in centred) / N)
    kept = list(np.argsort(values)[::-1][:D])
    return unit, np.stack([axes[:, k] / np.sqrt(values[k] + 1e-3 * values[kept[0]]) for k in kept], axis=1)


def slow_centred(rows: list[np.ndarray], groups: list[str]) -> list[np.ndarray]:
    means = {}
    for group in set(groups):
        members = [row for row, own in zip(rows, groups, strict=True) if own == group]
        means[group] = sum(members) / len(members)
    return [row - means[group] for row, group in zip(rows, groups, strict=True)]


def slow_root(z: list[np.ndarray], y: list[np.ndarray]) -> np.ndarray:
    """(A A')^1/2 less its trace, at length 1, flat; rows come centred."""
    a = sum(np.outer(z_row, y_row) for z_row, y_row in zip(z, y, strict=True)) / len(z)
    values, axes = np.linalg.eigh(a @ a.T)
    root = axes @ np.diag(np.sqrt(np.maximum(values, 0))) @ axes.T
    root -= np.trace(root) / len(root) * np.eye(len(root))
    return (root / np.linalg.norm(root)).ravel()


def test_centring_within_sources_and_datasets_match_a_slow_independent_version() -> None:
    """Two large sources and two small ones, which are centred together; rows without an answer; and a DTE."""
    sources = ["a"] * 20 + ["b"] * 14 + ["c"] * 3 + ["d"] * 3
    groups = ["small" if source in "cd" else source for source in sources]
    space = opened(Pool(POOL.inputs, sources))
    unit, projection = slow_space(groups)
    fast, slow = [], []
    for seed, classes in ((0, 3), (1, 2)):
        y, answered = probabilities(seed, classes), np.arange(N) % (seed + 4) != 0
        fast.append(space.model(Outputs("probabilities", y, answered=answered)).vector)
        rows = [i for i in range(N) if answered[i]]
        own = [groups[i] for i in rows]
        z = slow_centred([unit[i] @ projection for i in rows], own)
        slow.append(slow_root(z, slow_centred([y[i].astype(float) for i in rows], own)))
    labels = np.random.default_rng(4).integers(0, 3, 30)
    inputs = TextTable([f"other text {i}" for i in range(30)])
    fast.append(space.dataset(Dataset("d", "classification", {"train": Split(inputs, labels)}, "f")).vector)
    texts = [row / np.linalg.norm(row) for row in features(inputs).astype(float)]
    z = slow_centred([row @ projection for row in texts], ["all"] * 30)
    slow.append(slow_root(z, slow_centred([np.eye(3)[label] for label in labels], ["all"] * 30)))
    np.testing.assert_allclose(np.stack(fast) @ np.stack(fast).T, np.stack(slow) @ np.stack(slow).T, atol=1e-5)


def test_labels_from_which_no_task_can_be_read_are_refused() -> None:
    texts = TextTable(["x", "y", "z"])

    def embed(task: Any, targets: Any, n: int = 3, **names: Any) -> None:
        opened().dataset(Dataset("d", task, {"train": Split(texts.take(range(n)), np.array(targets))}, "f", **names))

    with pytest.raises(MethodError, match="dataset d: class ids -1 to 1 for 2 classes"):
        embed("classification", [-1, 0, 1])
    with pytest.raises(MethodError, match="class ids 0 to 2 for 2 classes"):
        embed("classification", [0, 1, 2], label_names=("no", "yes"))
    with pytest.raises(MethodError, match="all 3 rows have class 1"):
        embed("classification", [1, 1, 1])
    with pytest.raises(MethodError, match="one value only in all 3 rows"):
        embed("regression", [5e6, 5e6 + 0.5, 5e6])
    for n in (0, 1):
        with pytest.raises(MethodError, match=f"{n} rows; give two at least"):
            embed("classification", [0, 1, 1][:n], n=n)


def test_spans_outside_their_text_are_refused() -> None:
    pool = Pool(TextTable(TEXTS, ["0123456789"] * N), ["s"] * N)
    starts = np.random.default_rng(0).integers(0, 5, (N, 1))
    good = pack_spans(starts, starts + 3, np.ones((N, 1)))
    assert np.isfinite(opened(pool).model(Outputs("spans", good)).vector).all()
    beyond = good.copy()
    beyond[7, :2] = 8, 11
    with pytest.raises(OutputsError, match="a span outside its text: row 7"):
        opened(pool).model(Outputs("spans", beyond))
    with pytest.raises(OutputsError, match="that input has no context"):
        opened().model(Outputs("spans", good))


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


@pytest.mark.parametrize("shape", [(6, 1), (6, 3), (6, 9), (4, 6, 3)])
def test_a_root_is_that_of_the_singular_values_and_its_cosine_that_of_the_matrices(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    one, other = rng.normal(size=shape), rng.normal(size=shape)
    one[..., -1] = one[..., 0]  # two columns that say the same
    bare = []
    for a in (one, other):
        left, singular, _ = np.linalg.svd(a, full_matrices=False)
        slow = (left * singular[..., None, :]) @ left.swapaxes(-1, -2)
        slow /= np.linalg.norm(slow, axis=(-2, -1), keepdims=True)
        np.testing.assert_allclose(Root.of(a).matrix(), slow, atol=1e-12)
        bare.append(np.array([without_identity(m) for m in slow.reshape(-1, 6, 6)]))
    cosines = Root.of(one).cosine(Root.of(other))
    np.testing.assert_allclose(np.ravel(cosines), (bare[0] * bare[1]).sum(axis=(1, 2)), atol=1e-9)


def test_what_says_the_same_of_every_text_is_like_nothing() -> None:
    rng = np.random.default_rng(6)
    z = rng.normal(size=(9, 4))
    nothing = cross_covariance(z, np.ones((9, 2)))
    assert not Root.of(nothing).matrix().any()
    assert Root.of(nothing).cosine(Root.of(rng.normal(size=(4, 2)))) == 0
    assert cross_covariance(z[:0], np.ones((0, 2))).tolist() == np.zeros((4, 2)).tolist()


def test_a_constant_model_is_refused() -> None:
    with pytest.raises(OutputsError, match="constant"):
        opened().model(Outputs("probabilities", np.full((N, 2), 0.5, dtype=np.float32)))


def test_a_pool_of_one_text_is_refused() -> None:
    with pytest.raises(MethodError, match="two different texts"):
        opened(Pool(TextTable(["same"] * 5), ["s"] * 5))


def test_rows_are_centred_within_their_source_to_the_last_digit_as_if_added_one_by_one() -> None:
    """Else the same outputs would have other embeddings than those that are stored."""
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=(500, 7)), rng.integers(0, 9, 500)
    groups[groups == 4] = 5  # a number that no row has
    sums = np.zeros((groups.max() + 1, 7))
    for row, group in zip(values, groups, strict=True):
        sums[group] += row
    means = sums / np.maximum(np.bincount(groups), 1)[:, None]
    np.testing.assert_array_equal(centred_within(values, groups), values - means[groups])


@pytest.mark.parametrize("hard", [False, True])
def test_the_chance_of_a_covariance_is_what_permuting_the_outputs_within_groups_finds(hard: bool) -> None:
    rng = np.random.default_rng(11)
    groups = np.repeat(np.arange(12), 20)
    z = centred_within(rng.normal(size=(len(groups), 25)) * np.linspace(1, 0.2, 25), groups)
    found, expected = [], []
    for _ in range(12):
        y = rng.random((len(groups), 3))
        y = np.eye(3)[y.argmax(axis=1)] if hard else y
        centred = centred_within(y, groups)
        permuted = []
        for _ in range(400):
            order = np.lexsort((rng.random(len(groups)), groups))  # groups stand together, so each stays in its rows
            permuted.append(((z.T @ centred[order]) ** 2).sum())
        found.append(chance_of_covariance(z, y, groups))
        expected.append(np.mean(permuted >= ((z.T @ centred) ** 2).sum()))
    np.testing.assert_allclose(found, expected, atol=0.08)
    related = z[:, :2] @ rng.normal(size=(2, 3)) + rng.normal(size=(len(groups), 3))
    assert chance_of_covariance(z, related, groups) < 1e-6


def test_outputs_without_spread_have_nothing_to_do_with_texts() -> None:
    assert chance_of_covariance(np.zeros((6, 2)), np.zeros((6, 3)), np.zeros(6, dtype=np.intp)) == 1.0


@pytest.mark.parametrize("columns", [1, 8, 40])
def test_unrelated_subjects_overlap_by_nothing_however_many_columns_they_have(columns: int) -> None:
    rng = np.random.default_rng(12)
    d = 40
    roots = [[Root.of(rng.normal(size=(d, c))).matrix() for _ in range(150)] for c in (columns, 40)]
    plain = [float((one * other).sum()) for one, other in zip(*roots, strict=True)]
    traces = [np.mean([np.trace(root) for root in side]) for side in roots]
    assert abs(np.mean(plain) - traces[0] * traces[1] / d) < 4 * np.std(plain) / np.sqrt(len(plain))
    bare = [[without_identity(root) for root in side] for side in roots]
    overlaps = [float((one * other).sum()) for one, other in zip(*bare, strict=True)]
    assert abs(np.mean(overlaps)) < 4 * np.std(overlaps) / np.sqrt(len(overlaps))
    for root, matrix in zip(roots[0], bare[0], strict=True):
        assert np.trace(matrix) == pytest.approx(0, abs=1e-9)
        assert np.linalg.norm(matrix) == pytest.approx(1)
        np.testing.assert_allclose(matrix - np.diag(np.diag(matrix)), (root - np.diag(np.diag(root))) / np.sqrt(
            1 - np.trace(root) ** 2 / d), atol=1e-12)  # fmt: skip


def test_a_root_that_is_the_identity_is_no_task() -> None:
    assert not without_identity(np.eye(4) / 2).any()
    orthogonal = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 4)))[0]
    z = orthogonal - orthogonal.mean(axis=0)
    z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z)).T
    with pytest.raises(MethodError, match="vary alike along all of the pool's 4 axes"):
        embedding_of(z, z @ np.eye(4), np.zeros(12, dtype=np.intp))


def test_what_another_version_embeds_is_not_compared_with_this_one() -> None:
    """If these cosines change, what stores hold is of another space: raise METHOD_VERSIONS, then write the new ones."""
    embedder = opened()
    zoo = [probabilities(0), probabilities(1), probabilities(2, classes=2)]
    a, b, c = (embedder.model(Outputs("probabilities", values)).vector for values in zoo)
    assert METHOD_VERSIONS["crosscov"] == 3
    assert (a @ b, a @ c, b @ c) == pytest.approx((-0.2758735, -0.3314325, 0.2367819), abs=1e-5)
