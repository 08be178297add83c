"""The panel's test: error rates by theorem and by simulation, what is found and when, and how it is said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binom

from fute.config import DriftConfig
from fute.drift import (
    Answers,
    Baseline,
    batches,
    ceiling,
    changed_settings,
    changes,
    estimate,
    false_discovery,
    log_wealth,
    p_value,
    panel_rows,
    unreadable,
)

CONFIG = DriftConfig()
N = 256


def answers(labels: Sequence[int] | np.ndarray, n_labels: int = 3, sure: float = 1.0) -> Answers:
    """-1: no answer."""
    labels = np.asarray(labels)
    values = np.full((len(labels), n_labels), (1 - sure) / (n_labels - 1), np.float32)
    values[np.arange(len(labels)), labels] = sure
    values[labels < 0] = 0
    return Answers(values, labels >= 0)


class Endpoint:
    """Answers label 0, and in some rows, which are noisy, half of the time label 1; `flipped` rows say label 2."""

    def __init__(self, noise: float, rng: np.random.Generator) -> None:
        self.noisy = rng.random(N) < noise
        self.flipped = np.zeros(N, bool)
        self._rng = rng

    def ask(self) -> Answers:
        label = (self.noisy & (self._rng.random(N) < 0.5)).astype(int)
        return answers(np.where(self.flipped, 2, label))

    def baseline(self, askings: int = CONFIG.askings) -> Baseline:
        asked = [self.ask() for _ in range(askings)]
        return Baseline(np.stack([a.values for a in asked]), np.stack([a.answered for a in asked]))


def weeks_to_alarm(endpoint: Endpoint, weeks: int, drift: float = 0.0) -> tuple[int | None, list[float]]:
    baseline = endpoint.baseline()
    ceilings = baseline.ceilings(labels=True, config=CONFIG)
    counts: list[list[int]] = [[], []]
    asked: list[int] = []
    p_values = []
    for week in range(weeks):
        endpoint.flipped |= endpoint._rng.random(N) < drift
        for rows in batches(N, week):
            now = endpoint.ask().take(rows)
            asked.append(len(rows))
            flags = changes(baseline.reference.take(rows), now, labels=True, config=CONFIG)
            for column, changed in zip(counts, flags, strict=True):
                column.append(int(changed.sum()))
        p_values.append(p_value(counts, asked, ceilings, CONFIG.alpha))
        if p_values[-1] <= CONFIG.alpha:
            return week, p_values
    return None, p_values


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
def test_an_unchanged_endpoint_raises_no_alarm_in_years(noise: float) -> None:
    rng = np.random.default_rng(1)
    assert [weeks_to_alarm(Endpoint(noise, rng), 104)[0] for _ in range(4)] == [None] * 4


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_slow_drift_is_found_within_the_year_and_a_quarter_of_the_rows_at_once(noise: float) -> None:
    rng = np.random.default_rng(2)
    week, _ = weeks_to_alarm(Endpoint(noise, rng), 52, drift=0.002)
    assert week is not None
    assert week < 40
    assert weeks_to_alarm(Endpoint(noise, rng), 2, drift=0.25)[0] == 0


def test_a_change_after_two_quiet_years_is_found_as_soon() -> None:
    top = ceiling(0, N * 5, CONFIG.alpha)
    quiet, asked = [0] * 208, [32, N] * 104

    def needed(before: list[int], asked_before: list[int]) -> int:
        return next(
            n for n in range(N) if p_value([[*before, n]] * 2, [*asked_before, N], [top] * 2, 0.01) <= CONFIG.alpha
        )

    assert needed([], []) == 9
    assert needed(quiet, asked) <= 15


def test_fifteen_rows_mostly_show_a_real_update() -> None:
    """28 of 100 choices differed between two snapshots of one hosted model (arXiv 2307.09009)."""
    top = ceiling(0, N * 5, CONFIG.alpha)
    needed = next(n for n in range(16) if p_value([[n]] * 2, [15], [top] * 2, CONFIG.alpha) <= CONFIG.alpha)
    assert binom.sf(needed - 1, 15, 0.28) > 0.8


def test_the_mixture_of_an_endpoint_at_its_ceiling_is_a_supermartingale() -> None:
    """Exactly: the mean of exp(log_wealth) over all outcomes of two batches, however the rows share the noise."""
    for rates in ([0.05] * 4, [0.2, 0.0, 0.0, 0.0]):
        ways = [1.0]  # distribution of the sum of unequal trials
        for rate in rates:
            ways = np.convolve(ways, [1 - rate, rate])
        mean = sum(ways[a] * ways[b] * np.exp(log_wealth([a, b], [4, 4], 0.05)) for a in range(5) for b in range(5))
        assert mean <= 1 + 1e-9
        if rates[0] == rates[1]:
            assert mean == pytest.approx(1)


def test_the_ceiling_holds_as_often_as_it_says() -> None:
    for rate in (0.001, 0.01, 0.1):
        low = np.arange(int(500 * rate) + 1)
        wrong = binom.pmf([k for k in low if ceiling(int(k), 500, 0.01) < rate], 500, rate).sum()
        assert wrong <= 0.0001
    assert ceiling(10, 10, 0.01) == 1.0
    assert p_value([[5]], [10], [1.0], 0.01) == 1.0  # an endpoint that is all noise: nothing to bet on


def test_what_changed_is_said_in_texts() -> None:
    before = answers([0] * 200)
    now = answers([1] * 6 + [2] * 2 + [0] * 192)
    found = estimate(before, now, ["refund", "other", "bill"], CONFIG)
    assert (found.changed, found.rows, found.turns[0]) == (8, 200, ("refund", "other", 6))
    assert found.sentence(True, ["refund", "other", "bill"]) == (
        "the label changed on 4.0% (1.7% to 7.7%) of your texts, most often refund to other"
    )
    same = estimate(answers([0] * N), answers([0] * N), ["a", "b", "c"], CONFIG)
    assert same.sentence(False, ["a"]) == "no change; a change of more than 1.2% would have been seen (95 %)"
    assert "(8 of 200 differ, not beyond the noise that its baseline leaves possible)" in found.sentence(False, ["a"])


def test_probabilities_that_move_are_seen_though_no_label_changes() -> None:
    before, now = answers([0] * 64, sure=0.9), answers([0] * 64, sure=0.7)
    flags = changes(before, now, labels=True, config=CONFIG)
    assert (flags[0].sum(), flags[1].sum()) == (0, 64)
    assert "the probabilities of labels moved on 100.0% of your texts" in estimate(
        before, now, ["a", "b", "c"], CONFIG
    ).sentence(True, ["a", "b", "c"])
    assert not changes(before, answers([0] * 64, sure=0.87), labels=True, config=CONFIG).any()
    top = ceiling(0, 64, CONFIG.alpha)
    assert p_value([[0], [64]], [64], [top] * 2, CONFIG.alpha) <= CONFIG.alpha


def test_no_answer_is_one_more_label_and_most_of_them_is_no_reading() -> None:
    before, now = answers([0, 1, 2, 0]), answers([-1, 1, 2, 0])
    assert changes(before, now, labels=True, config=CONFIG).tolist() == [[True, False, False, False]] * 2
    assert unreadable(before, now) is None
    assert unreadable(before, answers([-1, -1, -1, 0])) == "it answered 1 of 4 texts, and all of them at first"
    assert estimate(before, now, ["a", "b", "c"], CONFIG).turns == (("a", "no answer", 1),)


def test_free_texts_are_compared_by_their_embeddings() -> None:
    before = Answers(np.eye(4, dtype=np.float32), np.ones(4, bool))
    now = Answers(np.roll(before.values, 1, axis=0), np.ones(4, bool))
    assert changes(before, now, labels=False, config=CONFIG).tolist() == [[True] * 4]
    assert not changes(before, Answers(2 * before.values, before.answered), labels=False, config=CONFIG).any()
    assert estimate(before, now, None, CONFIG).sentence(True, None).startswith("the answer changed on 100.0%")


def test_a_baseline_of_silence_is_none() -> None:
    silent = Baseline(np.zeros((2, 40, 2), np.float32), np.arange(80).reshape(2, 40) % 4 == 0)
    assert "only 10 of the panel's 40 rows were answered each time" in str(silent.fault())
    assert Endpoint(0.0, np.random.default_rng(0)).baseline(2).fault() is None


def test_over_many_models_the_share_of_false_alarms_is_bounded() -> None:
    assert false_discovery([], 0.01) == []
    assert false_discovery([0.004, *[0.9] * 9], 0.01) == [False] * 10
    assert false_discovery([0.0005, *[0.9] * 9], 0.01) == [True, *[False] * 9]
    assert false_discovery([0.004] * 10, 0.01) == [True] * 10


@pytest.mark.parametrize("models", [1, 51, 1000])
def test_one_model_that_changed_is_named_among_however_many(models: int) -> None:
    baseline = Endpoint(0.0, np.random.default_rng(0)).baseline(6)
    ceilings = baseline.ceilings(labels=True, config=CONFIG, alongside=models)
    p = p_value([[N], [N]], [N], ceilings, CONFIG.alpha / models)
    assert false_discovery([p, *[1.0] * (models - 1)], CONFIG.alpha)[0]


def test_settings_that_changed_have_their_names_in_a_study() -> None:
    before = {"system": "1", "fields": "1", "model": "1"}
    assert changed_settings(before, {"system": "2", "fields": "2", "model": "1"}) == ("parameters", "system")
    assert changed_settings({}, before) == ("settings",)


def test_a_panel_takes_its_rows_from_every_source() -> None:
    sources = ["many"] * 90 + ["few"] * 10
    rows = panel_rows(sources, list(range(100)), 20, seed=0)
    assert sorted(rows) == list(rows)
    assert [sources[row] for row in rows].count("few") == 10
    assert list(panel_rows(sources, list(range(100)), 20, seed=0)) == list(rows)
    assert len(panel_rows(sources, [1, 2, 3], 20, seed=0)) == 3


def test_a_check_begins_with_a_draw_of_its_own() -> None:
    first, whole = batches(N, 1)
    assert (len(first), len(whole)) == (32, N)
    assert list(first) != list(batches(N, 2)[0])
    assert [len(batch) for batch in batches(60, 1)] == [60]
