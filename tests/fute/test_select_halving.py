"""Successive halving: the same choice for a share of the calls, and an honest count of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from fute.errors import ConfigError
from fute.select.candidates import Candidates
from fute.select.halving import Halving, successive_halving
from fute.select.ranking import Evidence, find_merits, rank_halving

ACCURACIES = [0.9, 0.75, 0.7, 0.7, 0.65, 0.6, 0.55, 0.5, 0.5, 0.1]


class Panel:
    """Candidates whose answers are known beforehand, given out and counted as they are asked for."""

    def __init__(self, n: int, seed: int, calls_per_row: int = 1, accuracies: list[float] = ACCURACIES) -> None:
        rng = np.random.default_rng(seed)
        labels = rng.integers(2, size=n)
        right = rng.random((len(accuracies), n)) < np.array(accuracies)[:, None]
        said = np.where(right, labels, 1 - labels)
        ids = tuple(f"prompt-{i}" for i in range(len(accuracies)))
        values = np.where(said[:, :, None] == np.arange(2), 0.9, 0.1)
        calls = np.full(len(ids), calls_per_row, np.int64)
        self.full = Candidates(ids, values, np.ones(said.shape, bool), ("bad", "good"), calls)
        self.asked: list[tuple[int, int]] = []

    @property
    def blank(self) -> Candidates:
        full = self.full
        return Candidates(full.ids, np.zeros_like(full.probabilities), np.zeros_like(full.answered), full.label_names,
                          full.calls_per_row)  # fmt: skip

    def ask(self, members: NDArray[np.int64], rows: NDArray[np.int64]) -> Candidates:
        self.asked += [(int(m), int(r)) for m in members for r in rows]
        return self.full.some(members).rows(rows)

    def halve(self, share: float = 1 / 3, seed: int = 0) -> Halving:
        return successive_halving(
            self.blank, self.ask, lambda now, rows: find_merits(Evidence(now))[:, rows], share=share, seed=seed
        )


def test_the_best_is_found_for_a_third_of_the_calls() -> None:
    for seed in range(5):
        panel = Panel(300, seed)
        found = panel.halve()
        assert found.scores.argmax() == 0
        assert found.calls <= len(ACCURACIES) * 300 / 3


def test_what_it_says_it_spent_is_what_was_asked_and_nothing_is_asked_twice() -> None:
    panel = Panel(200, 1, calls_per_row=2)
    found = panel.halve()
    assert found.calls == 2 * len(panel.asked)
    assert len(set(panel.asked)) == len(panel.asked)
    assert found.candidates.answered.sum() == len(panel.asked)
    np.testing.assert_array_equal(found.candidates.answered.sum(axis=1), found.rows)


def test_each_round_at_least_halves_and_who_stays_longer_ranks_higher() -> None:
    found = Panel(300, 2, accuracies=[0.8, 0.79, 0.78, 0.77, 0.5, 0.5, 0.4]).halve()
    sizes = [int((found.rows >= asked).sum()) for asked in np.unique(found.rows)]  # who was asked so often, or more
    assert len(sizes) > 1
    assert all(later <= (earlier + 1) // 2 for earlier, later in pairwise(sizes))
    order = np.argsort(-found.scores)
    assert (np.diff(found.rows[order]) <= 0).all()


def test_the_same_seed_asks_the_same() -> None:
    one, other = Panel(150, 3), Panel(150, 3)
    one.halve(seed=7)
    other.halve(seed=7)
    assert one.asked == other.asked


def test_too_small_a_share_is_refused_before_anything_is_asked() -> None:
    panel = Panel(100, 0)
    with pytest.raises(ConfigError, match="give more texts or a larger share"):
        panel.halve(share=0.01)
    assert panel.asked == []


def test_one_candidate_needs_no_race() -> None:
    panel = Panel(60, 0)
    panel.full = panel.full.some(np.array([0]))
    found = panel.halve()
    assert found.scores.argmax() == 0
    assert found.calls <= 20


def test_its_ranking_has_intervals_that_narrow_with_the_rows_asked() -> None:
    found = Panel(300, 2, accuracies=[0.8, 0.79, 0.78, 0.77, 0.5, 0.5, 0.4]).halve()
    ranking = rank_halving(found, resamples=50)
    assert found.rows.max() > found.rows.min()
    np.testing.assert_array_equal(ranking.order, np.argsort(-found.scores, kind="stable"))
    widths = ranking.high - ranking.low
    assert widths[found.rows.argmax()] < widths[found.rows.argmin()]
    assert ranking.best.sum() == pytest.approx(1.0)
    assert (ranking.best[found.rows < found.rows.max()] == 0).all()
