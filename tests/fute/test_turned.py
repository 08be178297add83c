"""Whether two models' labels are turned, from their answers alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from fute.match.turned import FEWEST_A_CLASS, FEWEST_ROWS, SURE, best_other, correlations, only_numbered, other_order
from fute.types import Outputs

pytestmark = pytest.mark.kernels


def answers(n: int, names: tuple[str, ...], noise: float, seed: int) -> Outputs:
    """Of one task, which all seeds have in common, by a model of its own errors."""
    task = np.random.default_rng(0).normal(size=(n, len(names)))
    raised = np.exp(task + noise * np.random.default_rng([1, seed]).normal(size=task.shape))
    return Outputs("probabilities", (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32), label_names=names)


def renumbered(outputs: Outputs, order: list[int], names: tuple[str, ...] | None = None) -> Outputs:
    """The columns in another order, under the same names unless others are given."""
    return replace(outputs, values=outputs.values[:, order], label_names=names or outputs.label_names)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_other_order_is_the_best_of_all_but_the_named_one(classes: int) -> None:
    rng = np.random.default_rng(classes)
    for _ in range(20):
        of = rng.uniform(-1, 1, (classes, classes))
        sums = {order: sum(of[i, j] for i, j in enumerate(order)) for order in permutations(range(classes))}
        named = sums.pop(tuple(range(classes)))
        order, gain = best_other(of)
        best = max(sums, key=lambda o: sums[o])
        assert (tuple(order), gain) == (best, pytest.approx(sums[best] - named))


def test_correlations_are_those_of_columns_and_a_constant_one_has_none() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
    a[:, 2] = 0.3
    found = correlations(a, b)
    assert found[:2] == pytest.approx(np.corrcoef(a[:, :2].T, b.T)[:2, 2:])
    assert found[2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("names", [("bad", "good"), ("a", "b", "c"), tuple("abcdefghijkl")])
def test_turned_labels_are_named_with_their_order_and_those_in_place_are_not(names: tuple[str, ...]) -> None:
    one, other = answers(400, names, 0.5, 1), answers(400, names, 0.5, 2)
    together = other_order(one, other)
    assert together is not None
    assert together.probability < 0.01
    c = len(names)
    moved = renumbered(other, [(i + 1) % c for i in range(c)])  # its class i answers what i + 1 does
    turned = other_order(one, moved)
    assert turned is not None
    assert turned.probability > SURE
    assert turned.stands_for == {names[(i + 1) % c]: names[i] for i in range(c)}
    assert other_order(moved, one).probability == pytest.approx(turned.probability)  # type: ignore[union-attr]


def test_names_say_which_class_is_which_and_not_their_places() -> None:
    one, other = (answers(400, ("bad", "good"), 0.5, seed) for seed in (1, 2))
    told = other_order(one, renumbered(other, [1, 0], ("Good", "Bad")))
    assert told == replace(other_order(one, other), stands_for={"bad": "Good", "good": "Bad"})  # type: ignore[type-var]


@pytest.mark.parametrize("classes", [2, 12, 60])
def test_answers_that_have_nothing_to_do_with_each_other_are_not_turned(classes: int) -> None:
    rng, n = np.random.default_rng(3), max(FEWEST_ROWS, FEWEST_A_CLASS * classes)
    for seed in range(8):
        one = answers(n, tuple(map(str, range(classes))), 0.5, seed)
        told = other_order(one, replace(one, values=one.values[rng.permutation(n)]))
        assert told is not None
        assert told.probability < SURE


def test_nothing_is_said_of_other_names_of_few_rows_or_of_rows_that_one_did_not_answer() -> None:
    one = answers(400, ("bad", "good"), 0.5, 1)
    assert other_order(one, replace(one, label_names=("bad", "better"))) is None
    assert other_order(one, replace(one, label_names=None)) is None
    few = np.arange(400) < FEWEST_ROWS - 1
    assert other_order(one, replace(one, answered=few)) is None
    turned = renumbered(one, [1, 0])
    garbled = turned.values.copy()
    garbled[200:] = one.values[200:]
    half = np.arange(400) < 200
    told = other_order(one, replace(turned, values=garbled, answered=half))
    assert told == other_order(replace(one, answered=half), turned)


def test_numbers_for_names_say_nothing_of_a_task() -> None:
    assert only_numbered(["0", "1"])
    assert only_numbered(["LABEL_0", "LABEL_12"])
    assert not only_numbered(["1 star", "2 stars"])
    assert not only_numbered(["positive", "label_1"])
