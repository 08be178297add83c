"""Measures of source selection: cases computed by hand, and chance against all orders of a small ranking."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from fute.evaluate.transfer import Gain, chance, evaluate_selection, same_class

GAINS: list[Gain] = ["exponential", "relative"]


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


def test_rank_regret_and_gain_of_the_pick_match_a_case_computed_by_hand() -> None:
    scores = np.array([[0.5, 0.9], [0.8, 0.6], [0.7, 0.3]])
    similarity = np.array([[0.9, 0.8], [0.1, 0.9], [0.5, 0.1]])  # orders 0 2 1 and 1 0 2
    found = evaluate_selection(scores, similarity, baseline=np.array([0.55, 0.5]))
    assert found.best_rank == (3 + 2) / 2
    assert found.regret == pytest.approx((0.3 + 0.3) / 2)
    assert found.pick_gain == pytest.approx((-0.05 + 0.1) / 2)
    assert found.targets == 2


def test_ndcg_has_the_gains_that_are_written_down() -> None:
    scores, similarity = column(0.5, 0.8, 0.7), column(0.9, 0.1, 0.5)
    second, third = 1 / np.log2(3), 1 / 2
    gains = {
        "exponential": (2**0.5 - 1, 2**0.8 - 1, 2**0.7 - 1),
        "relative": (0.0, 1.0, 2 / 3),
    }
    for gain in GAINS:
        low, high, middle = gains[gain]
        expected = (low + middle * second + high * third) / (high + middle * second + low * third)
        assert evaluate_selection(scores, similarity, gain=gain).ndcg == pytest.approx(expected)


@pytest.mark.parametrize("gain", GAINS)
def test_a_perfect_ranking_earns_rank_one_ndcg_one_and_no_regret(gain: Gain) -> None:
    scores = np.random.default_rng(0).random((6, 4))
    found = evaluate_selection(scores, 3 * scores - 1, gain=gain)
    assert (found.best_rank, found.regret) == (1, 0)
    assert found.ndcg == pytest.approx(1)


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("values", [(0.2, 0.9, 0.4, 0.5), (0.9, 0.9, 0.4, 0.5), (0.3, 0.3, 0.3, 0.3)])
def test_chance_in_closed_form_is_the_mean_over_all_orders(gain: Gain, values: tuple[float, ...]) -> None:
    scores, without = column(*values), np.array([0.3])
    orders = [
        evaluate_selection(scores, column(*order), baseline=without, gain=gain) for order in permutations(range(4))
    ]
    expected = chance(scores, baseline=without, gain=gain)
    for measure in ("best_rank", "ndcg", "regret", "pick_gain"):
        assert getattr(expected, measure) == pytest.approx(np.mean([getattr(found, measure) for found in orders]))


def test_chance_of_the_best_rank_is_half_of_the_candidates_and_one() -> None:
    scores = np.random.default_rng(1).random((15, 3))
    assert chance(scores).best_rank == 8
    tied = column(0.9, 0.9, 0.1, 0.2, 0.3)
    assert chance(tied).best_rank == pytest.approx(6 / 3)


def test_equal_similarities_count_as_put_in_random_order() -> None:
    scores = column(0.2, 0.9, 0.4, 0.5)
    both = [evaluate_selection(scores, column(3, *tied, 0)) for tied in ((2, 1), (1, 2))]
    found = evaluate_selection(scores, column(3, 1, 1, 0))
    assert found.best_rank == 2.5
    assert found.ndcg == pytest.approx(np.mean([b.ndcg for b in both]))


def test_of_several_best_sources_the_one_ranked_first_counts() -> None:
    found = evaluate_selection(column(0.9, 0.1, 0.9), column(1, 2, 3))
    assert (found.best_rank, found.regret) == (1, 0)


def test_a_cell_without_a_score_is_no_candidate() -> None:
    scores = np.array([[np.nan, 0.6], [0.8, np.nan], [0.7, 0.5]])
    similarity = np.array([[1.0, 0.2], [0.1, 1.0], [0.5, 0.1]])
    found = evaluate_selection(scores, similarity)
    assert found.best_rank == (2 + 1) / 2


def test_a_candidate_without_a_similarity_stands_last() -> None:
    found = evaluate_selection(column(0.9, 0.5, 0.4), column(np.nan, -0.5, -0.9))
    assert found.best_rank == 3
    blind = evaluate_selection(column(0.9, 0.5, 0.4), column(np.nan, np.nan, np.nan))
    assert blind.best_rank == chance(column(0.9, 0.5, 0.4)).best_rank == 2
    assert blind.ndcg == pytest.approx(chance(column(0.9, 0.5, 0.4)).ndcg)


def test_in_class_ranks_only_sources_of_the_targets_class_and_leaves_out_targets_without_a_choice() -> None:
    allowed = same_class(["mood", "mood", "topic", None], ["mood", "topic", None])
    assert allowed.tolist() == [[True, False, False], [True, False, False], [False, True, False], [False] * 3]
    scores = np.array([[0.5, 0.1, 0.1], [0.6, 0.2, 0.2], [0.9, 0.3, 0.3], [0.8, 0.4, 0.4]])
    similarity = np.array([[0.1, 0, 0], [0.2, 0, 0], [0.9, 0, 0], [0.8, 0, 0]])
    found = evaluate_selection(scores, similarity, allowed=allowed)
    assert found.targets == 1
    assert (found.best_rank, found.regret) == (1, 0)


def test_nothing_to_choose_from_is_no_number() -> None:
    found = evaluate_selection(column(0.5), column(1.0))
    assert found.targets == 0
    assert np.isnan(found.best_rank)
    assert np.isnan(evaluate_selection(column(0.5, 0.6), column(1, 2)).pick_gain)


def test_sources_that_gain_nothing_are_all_as_good() -> None:
    assert evaluate_selection(column(0.0, 0.0), column(1, 2)).ndcg == 1
    assert evaluate_selection(column(0.4, 0.4), column(1, 2), gain="relative").ndcg == 1


def test_equal_means_that_differ_in_rounding_are_equal() -> None:
    scores = np.array([[0.8244444444444445], [0.8244444444444444], [0.5]])
    assert evaluate_selection(scores, np.array([[0.0], [1.0], [0.5]])).best_rank == 1.0
