"""The wire: its p-value is one, what trips it, and what an endpoint can be identified as."""

from __future__ import annotations

import numpy as np
import pytest

from fute.drift import Answers, Baseline
from fute.tripwire import WIRE_ALPHA, identify, wire_askings, wire_p_value, wire_rows, wire_size

ROWS = 256


def endpoint(rng: np.random.Generator, shift: float = 0.0, noise: float = 0.0, hard: bool = False) -> Answers:
    """Two labels; the log-odds of row i are fixed, moved by `shift` and by noise of the call."""
    odds = np.random.default_rng(0).normal(0, 3, ROWS) + shift + noise * rng.standard_normal(ROWS)
    good = 1 / (1 + np.exp(-odds))
    values = np.stack([good, 1 - good], axis=1).astype(np.float32)
    if hard:
        values = np.eye(2, dtype=np.float32)[values.argmax(axis=1)]
    return Answers(values, np.ones(ROWS, bool))


def enrolled(rng: np.random.Generator, askings: int = 6, **told: float) -> Baseline:
    asked = [endpoint(rng, **told) for _ in range(askings)]
    return Baseline(np.stack([a.values for a in asked]), np.stack([a.answered for a in asked]))


def p_of(baseline: Baseline, now: Answers, seed: int = 0) -> float:
    rows = wire_rows(baseline, 20)
    return wire_p_value(wire_askings(baseline, rows), now.take(rows), labels=True, seed=seed)


def test_it_takes_the_rows_on_which_the_model_hesitates_or_varies() -> None:
    rng = np.random.default_rng(3)
    rows = wire_rows(enrolled(rng), 20)
    margins = np.abs(np.random.default_rng(0).normal(0, 3, ROWS))
    assert set(rows) == set(np.argsort(margins)[:20])
    assert (wire_size(enrolled(rng)), wire_size(enrolled(rng, hard=True))) == (10, 20)
    values = np.zeros((4, ROWS, 2), np.float32)
    values[..., 0] = 1
    values[0, 7] = [0, 1]  # without probabilities: a row that varied
    assert 7 in wire_rows(Baseline(values, np.ones((4, ROWS), bool)), 20)


def test_p_values_of_an_unchanged_endpoint_are_valid_though_its_rows_were_chosen_for_their_noise() -> None:
    rng = np.random.default_rng(4)
    found = [p_of(enrolled(rng, noise=0.5), endpoint(rng, noise=0.5), seed=number) for number in range(100)]
    for level in (0.01, 0.1, 0.5):
        assert np.mean(np.array(found) <= level) <= level + 3 * np.sqrt(level * (1 - level) / 100)
    assert p_of(enrolled(rng), endpoint(rng)) == 1.0


def test_a_shift_that_changes_hardly_a_label_trips_it_and_noise_as_before_does_not() -> None:
    rng = np.random.default_rng(5)
    baseline = enrolled(rng, noise=0.05)
    assert p_of(baseline, endpoint(rng, noise=0.05)) > 0.01
    assert p_of(baseline, endpoint(rng, shift=0.15, noise=0.05)) <= WIRE_ALPHA
    assert p_of(enrolled(rng, hard=True), endpoint(rng, shift=6.0, hard=True)) <= WIRE_ALPHA


def test_two_askings_of_an_earlier_version_suffice() -> None:
    rng = np.random.default_rng(6)
    baseline = enrolled(rng, askings=2, noise=0.05)
    assert p_of(baseline, endpoint(rng, noise=0.05)) > WIRE_ALPHA
    assert p_of(baseline, endpoint(rng, shift=1.0, noise=0.05)) <= WIRE_ALPHA


@pytest.mark.parametrize("hard", [False, True])
def test_an_endpoint_is_the_same_another_or_cannot_be_told(hard: bool) -> None:
    rng = np.random.default_rng(7)
    baseline = enrolled(rng, noise=0.02, hard=hard)
    rows = wire_rows(baseline, 20)
    before = wire_askings(baseline, rows)
    same = identify(before, endpoint(rng, noise=0.0, hard=hard).take(rows), labels=True, seed=1)
    assert same.verdict == "same"
    assert "would have been told (95 %)" in same.sentence
    other = endpoint(rng, hard=hard).take(rows)
    other.values[:] = other.values[:, ::-1].copy()
    assert identify(before, other, labels=True, seed=1).verdict == "another"
    coin = [Answers(np.eye(2, dtype=np.float32)[rng.integers(2, size=20)], np.ones(20, bool)) for _ in range(4)]
    unknown = identify(coin[:3], coin[3], labels=True, seed=1)
    assert unknown.verdict == "unknown"
    assert unknown.sentence.startswith("cannot tell")


def test_an_endpoint_without_probabilities_is_compared_by_its_labels() -> None:
    rng = np.random.default_rng(8)
    baseline = enrolled(rng)
    rows = wire_rows(baseline, 20)
    found = identify(wire_askings(baseline, rows), endpoint(rng, hard=True).take(rows), labels=True, seed=1)
    assert found.verdict == "same"
