"""Retrieval measures against cases computed by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # scripts beside each other, not a package
from retrieval_measures import retrieval


def test_measures_match_a_case_computed_by_hand() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4]])
    relevant = np.array([[True, False, True, False], [True, False, False, False]])
    result = retrieval(scores, relevant)
    assert result.p_at_1 == 0.5
    assert result.mrr == pytest.approx((1 + 1 / 4) / 2)
    assert result.map == pytest.approx(((1 + 2 / 3) / 2 + 1 / 4) / 2)
    assert result.queries == 2


def test_a_constant_score_earns_nothing() -> None:
    relevant = np.array([[True, False, False]])
    assert retrieval(np.zeros((1, 3)), relevant).mrr == pytest.approx(1 / 3)


def test_what_a_query_may_not_see_does_not_count() -> None:
    scores = np.array([[1.0, 0.5, 0.2]])
    relevant = np.array([[True, False, True]])
    allowed = np.array([[False, True, True]])
    assert retrieval(scores, relevant, allowed).mrr == 0.5


def test_queries_without_a_relevant_candidate_are_left_out() -> None:
    result = retrieval(np.zeros((2, 2)), np.array([[False, False], [True, True]]))
    assert result.queries == 1
    assert result.p_at_1 == 1
