"""benchmarks/drift.py: how answers are read, and what its endpoints do; no shared data."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # scripts beside each other, not a package
import drift as benchmark


def test_choices_are_read_as_they_were_asked_for() -> None:
    assert benchmark.choice(benchmark.ANSWER["opinionqa"], "(B). Somewhat") == "b"
    assert benchmark.choice(benchmark.ANSWER["prime"], "No doubt: [Yes]") == "yes"
    assert benchmark.choice(benchmark.ANSWER["prime"], "It is prime") == "none"


def test_an_unchanged_endpoint_stays_quiet_and_one_that_drifts_fast_does_not() -> None:
    rng = np.random.default_rng(0)
    assert min(benchmark.a_year(0.05, rng, weeks=4)) > benchmark.CONFIG.alpha
    assert min(benchmark.a_year(0.0, rng, drift=0.1, weeks=2)) <= benchmark.CONFIG.alpha


def test_a_year_by_the_clock_costs_a_twentieth_of_the_panel_by_the_hour() -> None:
    calls = {plan["plan"]: plan["calls"] for plan in benchmark.cost()}
    watched = [calls[plan] for plan in calls if plan.startswith(("wire every hour, with", "panel"))]
    assert sum(watched) < calls["before: 256 texts every hour"] / 20
