"""Two labels told apart by two of a model's classes."""

from __future__ import annotations

import numpy as np
import pytest

from fute.match.by_class import CHANCE, balanced, classes_of, expected_right, rightly, tell_apart

pytestmark = pytest.mark.kernels


def drawn(n: int, classes: int, sure: float, two: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model that answers class two[label] with so much more log-odds, and the labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [n // 2, n - n // 2])
    scores = rng.normal(size=(n, classes))
    scores[np.arange(n), np.array(two)[labels]] += sure
    raised = np.exp(scores)
    return raised / raised.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize(("classes", "two"), [(2, (1, 0)), (20, (13, 4)), (77, (0, 76))])
def test_two_of_many_classes_are_found_and_count_alone(classes: int, two: tuple[int, int]) -> None:
    probabilities, labels = drawn(40, classes, 5.0, two, 1)
    told = tell_apart(probabilities, labels, 0.9)
    assert told.classes == two
    assert told.accuracy.low < told.accuracy.expected <= told.accuracy.high <= 1.0
    assert told.accuracy.expected > 0.9
    assert told.accuracy.surely_above_chance(500)


def test_expected_is_the_mean_of_how_often_and_how_probably_the_right_one_is_answered() -> None:
    probabilities = np.array([[0.6, 0.1, 0.3], [0.2, 0.2, 0.6], [0.0, 0.9, 0.1]])
    labels = np.array([0, 0, 1])
    right = expected_right(probabilities, labels, (0, 2))
    assert right == pytest.approx([(1 + 0.6 / 0.9) / 2, 0.2 / 0.8 / 2, 1.0])
    assert balanced(right, labels) == pytest.approx((right[:2].mean() + right[2]) / 2)
    assert rightly(probabilities, labels, (0, 2)).tolist() == [True, False, True]
    assert classes_of(probabilities, labels) == (0, 1)


def test_the_order_of_labels_and_of_classes_changes_names_alone() -> None:
    probabilities, labels = drawn(40, 6, 2.0, (3, 5), 2)
    told, other = tell_apart(probabilities, labels, 0.8), tell_apart(probabilities, 1 - labels, 0.8)
    assert other.classes == told.classes[::-1]
    order = [4, 2, 0, 1, 5, 3]
    moved = tell_apart(probabilities[:, order], labels, 0.8)
    assert moved.accuracy.expected == pytest.approx(told.accuracy.expected)
    assert [order[c] for c in moved.classes] == list(told.classes)


def test_many_classes_do_not_tell_two_labels_apart_by_chance() -> None:
    expected, surely = [], []
    for seed in range(60):
        told = tell_apart(*drawn(40, 77, 0.0, (0, 1), seed), 1.0)
        expected.append(told.accuracy.expected)
        surely.append(told.accuracy.surely_above_chance(60))
        assert told.accuracy.expected >= CHANCE
    assert np.mean(expected) < 0.55  # those below chance count as chance
    assert not any(surely)


def test_classes_that_are_called_like_the_labels_are_those_labels_unless_others_are_clearly_right() -> None:
    probabilities, labels = drawn(60, 8, 4.0, (2, 6), 3)
    assert tell_apart(probabilities, labels, 0.9, (2, 6)).classes == (2, 6)
    assert tell_apart(probabilities, labels, 0.9, (6, 2)).classes == (2, 6)  # turned
    some, labels = drawn(60, 8, 0.3, (2, 6), 4)
    assert tell_apart(some, labels, 0.9, (2, 6)).classes == (2, 6)


def test_a_rare_label_counts_as_much_and_widens_the_interval() -> None:
    probabilities, labels = drawn(400, 4, 1.5, (0, 1), 5)
    rare = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:20]])
    even, uneven = tell_apart(probabilities, labels, 0.9), tell_apart(probabilities[rare], labels[rare], 0.9)
    assert uneven.accuracy.expected == pytest.approx(even.accuracy.expected, abs=0.1)
    assert uneven.accuracy.high - uneven.accuracy.low > even.accuracy.high - even.accuracy.low + 0.03
