"""Read-outs, the meaning of classes, and intervals, against slow versions and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from fute.match.accuracy import (
    alike,
    better_than_chance,
    by_name,
    interval,
    judge,
    matched,
    named_alike,
    stands_for,
    wilson,
)
from fute.match.kernel import TextKernel
from fute.match.novelty import RIDGE, Novelty
from fute.match.readout import RIDGES, beyond_chance, log_probabilities, read_out
from fute.types import Outputs, TextTable

WORDS = ["river", "bank", "money", "fish", "boat", "loan", "water", "credit"]


def texts(n: int, seed: int) -> TextTable:
    rng = np.random.default_rng(seed)
    return TextTable([" ".join(rng.choice(WORDS, 6)) + f" {i}" for i in range(n)])


def softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def pool() -> tuple[TextTable, np.ndarray]:
    return texts(40, 0), np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32)


@pytest.mark.kernels
def test_left_out_rows_are_missed_as_by_fits_without_them(pool: tuple[TextTable, np.ndarray]) -> None:
    kernel = TextKernel(*pool).pool
    outputs = Outputs("probabilities", softmax(np.random.default_rng(2).normal(size=(40, 3)) + 3 * kernel[:, :3]))
    found = read_out(kernel, [outputs])[0]
    logs = log_probabilities(outputs.values)
    offset = logs.mean(axis=0)

    def explained(ridge: float) -> float:
        missed = 0.0
        for row in range(40):
            rest = np.delete(np.arange(40), row)
            solved = np.linalg.solve(kernel[np.ix_(rest, rest)] + ridge * np.eye(39), logs[rest] - offset)
            missed += float(((logs[row] - offset - kernel[row, rest] @ solved) ** 2).sum())
        return 1 - missed / float(((logs - offset) ** 2).sum())

    slow = {ridge: explained(ridge) for ridge in RIDGES}
    best = max(slow, key=lambda r: slow[r])
    assert found.explained == pytest.approx(slow[best], abs=1e-9)
    weights = np.linalg.solve(kernel + best * np.eye(40), logs - offset)
    assert found.weights == pytest.approx(weights, abs=1e-8)


def test_a_text_of_the_pool_has_the_kernel_that_it_has_there(pool: tuple[TextTable, np.ndarray]) -> None:
    table, features = pool
    kernel = TextKernel(table, features)
    rows = np.array([3, 17, 5])
    assert kernel.texts(table.take(rows), features[rows]) == pytest.approx(kernel.pool[rows], abs=1e-9)
    assert np.diag(kernel.pool).mean() == pytest.approx(3.0)  # a constant and features 1, words and letters a half
    assert kernel.pool.mean(axis=0) == pytest.approx(1.0)


def test_a_model_that_counts_words_is_read_out_from_words() -> None:
    table = texts(200, 3)
    noise = np.random.default_rng(4).normal(size=(400, 5)).astype(np.float32)
    has = np.array([text.count("river") - text.count("loan") for text in table.texts], float)
    outputs = Outputs("probabilities", softmax(np.stack([has, -has], axis=1)))
    kernel = TextKernel(table, noise[:200])
    found = read_out(kernel.pool, [outputs])[0]
    assert found.explained > 0.8
    assert found.agreement > 0.6
    others = texts(200, 5)
    said = found.answers(kernel.texts(others, noise[200:])).argmax(axis=1)
    truth = np.array([text.count("river") - text.count("loan") for text in others.texts])
    clear = truth != 0
    assert ((said == 0) == (truth > 0))[clear].mean() > 0.9


def test_answers_of_no_kind_of_text_explain_nothing(pool: tuple[TextTable, np.ndarray]) -> None:
    outputs = Outputs("probabilities", softmax(np.random.default_rng(6).normal(size=(40, 2))))
    assert read_out(TextKernel(*pool).pool, [outputs])[0].explained < 0.05


def test_a_model_that_says_nearly_always_the_same_is_not_followed_by_saying_so() -> None:
    said = np.array([0] * 98 + [1] * 2)
    assert beyond_chance(np.zeros(100, int), said) == 0
    assert beyond_chance(said, said) == 1
    assert beyond_chance(1 - said, said) < -1


def test_rows_without_an_answer_do_not_count(pool: tuple[TextTable, np.ndarray]) -> None:
    kernel = TextKernel(*pool).pool
    values = softmax(4 * kernel[:, :2])
    there = np.arange(40) % 3 > 0
    other = values.copy()
    other[~there] = 0.0
    one, two = (read_out(kernel, [Outputs("probabilities", v, answered=there)])[0] for v in (values, other))
    assert one.weights == pytest.approx(two.weights)
    assert (one.explained, one.agreement) == (two.explained, two.agreement)


def test_models_do_not_look_at_each_other_and_the_order_of_classes_is_theirs(
    pool: tuple[TextTable, np.ndarray],
) -> None:
    kernel = TextKernel(*pool).pool
    a, b = (Outputs("probabilities", softmax(4 * kernel[:, k : k + 3])) for k in (0, 7))
    turned = Outputs("probabilities", a.values[:, [2, 0, 1]])
    alone, (beside, _, third) = read_out(kernel, [a])[0], read_out(kernel, [a, b, turned])
    assert alone.weights == pytest.approx(beside.weights)
    assert third.weights == pytest.approx(beside.weights[:, [2, 0, 1]])
    assert third.explained == pytest.approx(beside.explained)


def test_classes_stand_for_the_labels_that_they_go_with() -> None:
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, 600)
    answers = np.where(rng.random(600) < 0.9, (labels + 1) % 3, rng.integers(0, 3, 600))
    meaning, right = matched(answers, labels, 4, 3)
    assert meaning[:3].tolist() == [2, 0, 1]
    assert right == pytest.approx((meaning[answers] == labels).mean(), abs=0.01)
    renumbered = np.array([2, 0, 3, 1])
    other, same = matched(renumbered[answers], labels, 4, 3)
    assert same == right
    assert other[renumbered].tolist() == meaning.tolist()


def test_many_classes_do_not_learn_the_labels_by_heart() -> None:
    rng = np.random.default_rng(8)
    labels, answers = rng.integers(0, 2, 300), rng.integers(0, 150, 300)
    meaning, right = matched(answers, labels, 150, 2)
    assert (meaning[answers] == labels).mean() > 0.7  # on the texts that it was read from
    assert right == pytest.approx(0.5, abs=0.1)


def test_a_class_without_texts_stands_for_the_most_frequent_label() -> None:
    assert stands_for(np.array([[3.0, 1.0], [0.0, 0.0], [2.0, 2.0]])).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("texts", "n_labels"), [(25, 2), (40, 4), (200, 2)])
def test_answers_that_have_nothing_to_do_with_the_labels_are_as_good_as_the_most_frequent(
    texts: int, n_labels: int
) -> None:
    rng = np.random.default_rng(9)
    labels = np.arange(texts) % n_labels
    for lean in (0.5, 0.9, 1.0):
        found = []
        for _ in range(200):
            answers = (rng.random(texts) > lean).astype(np.int64)
            _, expected = matched(answers, rng.permutation(labels), 2, n_labels)
            told = interval(expected, np.bincount(labels).max() / texts, texts, 1.0)
            found.append(told.low <= 1 / n_labels <= told.high)
        assert np.mean(found) > 0.85


@pytest.mark.parametrize("truth", [0.6, 0.85, 0.97])
@pytest.mark.parametrize("texts", [20, 100])
def test_intervals_hold_of_models_that_are_read_out_exactly(truth: float, texts: int) -> None:
    rng = np.random.default_rng(10)
    held = []
    for _ in range(400):
        labels = rng.integers(0, 2, texts)
        answers = np.where(rng.random(texts) < truth, labels, 1 - labels)
        majority = max(labels.mean(), 1 - labels.mean())
        told = interval(matched(answers, labels, 2, 2)[1], majority, texts, 1.0)
        held.append(told.low <= truth <= told.high)
    assert np.mean(held) > 0.85


def test_the_best_of_many_models_is_not_better_by_chance() -> None:
    rng = np.random.default_rng(11)
    wrongly = []
    for _ in range(50):
        labels = rng.permutation(np.arange(60) % 2)
        expected = [matched(rng.integers(0, 2, 60), labels, 2, 2)[1] for _ in range(40)]
        told = interval(max(expected), 0.5, 60, 1.0)
        wrongly.append(told.surely_above_chance(40))
    assert np.mean(wrongly) <= 0.05
    assert interval(0.9, 0.5, 60, 1.0).surely_above_chance(40)


def uneven(texts: int, rare: float, rng: np.random.Generator, n_labels: int = 2) -> np.ndarray:
    """Labels of which the first is frequent, and the others have a share of the texts together."""
    each = max(1, round(texts * rare / (n_labels - 1)))
    return rng.permutation(np.repeat(np.arange(n_labels), [texts - each * (n_labels - 1)] + [each] * (n_labels - 1)))


@pytest.mark.parametrize(("texts", "rare", "n_labels"), [(60, 0.05, 2), (1000, 0.05, 2), (200, 0.1, 4)])
def test_random_models_are_not_called_better_on_uneven_files(texts: int, rare: float, n_labels: int) -> None:
    rng, files, models = np.random.default_rng(12), 60, 20
    wrongly = 0
    for _ in range(files):
        labels = uneven(texts, rare, rng, n_labels)
        found = []
        for _ in range(models):
            answers = np.where(rng.random(texts) < rng.uniform(0.02, 0.98), 0, rng.integers(1, 3, texts))
            told = judge(answers, labels, 3, n_labels, 1.0)
            found.append(better_than_chance([told.accuracy, told.balanced], models))
        wrongly += any(found)
    assert wrongly <= 0.05 * files


def test_a_spam_detector_is_better_where_spam_is_rare_and_its_classes_keep_their_meaning() -> None:
    rng = np.random.default_rng(13)
    labels = uneven(1000, 0.05, rng)
    answers = np.where(labels == 1, rng.random(1000) < 0.8, rng.random(1000) < 0.06).astype(np.int64)
    told = judge(answers, labels, 2, 2, 1.0)
    assert told.accuracy.expected == told.accuracy.chance == 0.95  # most of what it finds is none
    assert told.balanced.expected == pytest.approx(0.87, abs=0.04)
    assert told.balanced.chance == pytest.approx(0.5)
    assert told.meaning.tolist() == [0, 1]
    assert not told.accuracy.surely_above_chance(40)
    assert better_than_chance([told.accuracy, told.balanced], 40)


@pytest.mark.parametrize(("texts", "rare"), [(100, 0.1), (1000, 0.05)])
def test_intervals_of_balanced_accuracy_hold_on_uneven_files(texts: int, rare: float) -> None:
    rng = np.random.default_rng(14)
    for finds, wrong in ((0.6, 0.1), (0.9, 0.02), (0.9, 0.4)):
        held = []
        for _ in range(200):
            labels = uneven(texts, rare, rng)
            answers = np.where(labels == 1, rng.random(texts) < finds, rng.random(texts) < wrong).astype(np.int64)
            told = judge(answers, labels, 2, 2, 1.0).balanced
            held.append(told.low <= (finds + 1 - wrong) / 2 <= told.high)
        assert np.mean(held) > 0.85


def test_where_labels_are_equally_frequent_both_accuracies_are_one() -> None:
    labels = np.arange(300) % 3
    told = judge(np.where(np.arange(300) % 7 > 2, labels, 0), labels, 3, 3, 0.8)
    assert told.balanced.expected == pytest.approx(told.accuracy.expected)
    assert (told.balanced.low, told.balanced.chance) == pytest.approx((told.accuracy.low, 1 / 3))


def test_a_label_without_texts_does_not_count() -> None:
    assert alike(np.array([30, 0, 10])).tolist() == pytest.approx([40 / 60, 0.0, 2.0])
    assert judge(np.zeros(40, int), np.repeat([0, 2], [30, 10]), 1, 3, 1.0).balanced.chance == 0.5


def test_intervals_narrow_with_texts_and_agreement() -> None:
    wide, narrow = interval(0.8, 0.5, 50, 0.9), interval(0.8, 0.5, 5000, 0.9)
    assert wide.low < narrow.low < 0.8 < narrow.high < wide.high
    for expected in (0.5, 0.8):  # a model that is not followed may be better, also where nothing is seen of it
        assert interval(expected, 0.5, 500, 0.3).high > interval(expected, 0.5, 500, 1.0).high + 0.02


def test_a_counted_share_has_wilsons_interval() -> None:
    low, high = wilson(1.0, 25)  # z^2 / (n + z^2) above 0 or below 1
    assert (low, high) == pytest.approx((25 / (25 + 2.7055), 1.0), abs=1e-4)


@pytest.mark.parametrize("rare", range(1, 12))
def test_a_model_that_is_always_right_is_right_in_all_texts_and_no_more(rare: int) -> None:
    # Weights that make labels count the same sum to 1 but for rounding, and a share above 1 has no interval.
    labels = np.array([0] * 29 + [1] * rare)
    found = judge(labels, labels, 2, 2, 0.9)
    for told in (found.accuracy, found.balanced):
        assert told.expected <= 1.0
        assert 0.0 <= told.low <= told.high <= 1.0


def test_classes_called_like_the_labels_are_those_labels_unless_they_are_turned() -> None:
    named = named_alike(("Good", "bad"), ("bad", "good"))
    assert named is not None
    assert named.tolist() == [1, 0]
    labels = np.array([1] * 74 + [0] * 26)
    rather_bad = np.concatenate([[0] * 48, [1] * 26, [0] * 12, [1] * 14])  # right in 48 + 14
    meaning, right = by_name(rather_bad, labels, named)
    assert (meaning.tolist(), right) == ([1, 0], 0.62)
    # Not the 0.74 that it would be right in, were both of its classes "good".
    assert judge(rather_bad, labels, 2, 2, 0.9, named).accuracy.expected == 0.62
    assert judge(rather_bad, labels, 2, 2, 0.9).accuracy.expected == 0.74
    meaning, right = by_name(1 - rather_bad, labels, named)
    assert (meaning.tolist(), right) == ([0, 1], 0.62)
    assert named_alike(("good", "poor"), ("bad", "good")) is None
    assert named_alike(("good", "Good"), ("bad", "good")) is None


def test_novelty_is_what_the_pool_does_not_explain_and_other_texts_are_told(
    pool: tuple[TextTable, np.ndarray],
) -> None:
    inputs, features = pool
    kernel = TextKernel(inputs, features)
    novelty = Novelty(kernel.pool)
    # A text left out, by a pool without it.
    for row in (0, 7):
        rest = np.setdiff1d(np.arange(len(inputs)), [row])
        inner = kernel.pool[np.ix_(rest, rest)] + RIDGE * np.eye(len(rest))
        across = kernel.pool[row, rest]
        slow = kernel.pool[row, row] - across @ np.linalg.solve(inner, across)
        np.testing.assert_allclose(novelty.of_pool[row], slow, rtol=1e-6)
    # The pool's own texts are known, whatever is asked beside them.
    with_pool, own = kernel.texts(inputs, features), kernel.own(inputs, features)
    np.testing.assert_allclose(own, np.diag(kernel.pool), rtol=1e-5)
    assert not novelty.unlike(with_pool, own).any()
    other = TextTable([f"qz{i} xv{i} jk{i} wq{i}" for i in range(20)])
    strange = np.random.default_rng(5).normal(size=(20, features.shape[1])).astype(np.float32)
    assert novelty.unlike(kernel.texts(other, strange), kernel.own(other, strange)).mean() > 0.9
