"""The baselines on cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fute.errors import OutputsError
from fute.select.candidates import NO_ANSWER, Candidates
from fute.select.entropy import global_entropy, local_entropy, mdl, mutual_information
from fute.select.perplexity import spell
from fute.select.zps import agreement, pseudo_labels, zps
from fute.types import Outputs

LN2 = np.log(2)
H_09 = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
H_06 = -(0.6 * np.log(0.6) + 0.4 * np.log(0.4))


def of_two(*first_label: list[float], answered: list[list[bool]] | None = None) -> Candidates:
    """Two labels; each list holds one candidate's probabilities of the first, row by row."""
    p = np.array(first_label)
    there = np.ones(p.shape, bool) if answered is None else np.array(answered)
    values = np.stack([p, 1 - p], axis=2) * there[:, :, None]
    ids = tuple("abcdefgh"[: len(p)])
    return Candidates(ids, values, there, ("yes", "no"), np.ones(len(p), np.int64))


def test_mutual_information_is_the_entropy_of_the_mean_less_the_mean_entropy() -> None:
    candidates = of_two([0.9, 0.1], [0.9, 0.9], [0.5, 0.5], [1.0, 0.0])
    np.testing.assert_allclose(mutual_information(candidates), [LN2 - H_09, 0.0, 0.0, LN2], atol=1e-12)


def test_global_entropy_counts_most_probable_labels_only() -> None:
    candidates = of_two([0.9, 0.1, 0.6, 0.4], [0.51, 0.52, 0.53, 0.99], [0.6, 0.6, 0.6, 0.1])
    h_quarter = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    np.testing.assert_allclose(global_entropy(candidates), [LN2, 0.0, h_quarter], atol=1e-12)


def test_local_entropy_is_the_mean_entropy_and_mdl_its_opposite() -> None:
    candidates = of_two([0.9, 0.6], [0.5, 0.5])
    np.testing.assert_allclose(local_entropy(candidates), [(H_09 + H_06) / 2, LN2], atol=1e-12)
    np.testing.assert_allclose(mdl(candidates), -local_entropy(candidates))


def test_rows_without_an_answer_do_not_enter_entropies() -> None:
    candidates = of_two([0.9, 0.3, 0.1], [0.9, 0.4, 0.1], answered=[[True, False, True], [False] * 3])
    assert local_entropy(candidates)[0] == pytest.approx(H_09)
    assert mutual_information(candidates)[0] == pytest.approx(LN2 - H_09)
    assert global_entropy(candidates)[0] == pytest.approx(LN2)
    for method in (local_entropy, mutual_information, global_entropy, mdl):
        assert np.isnan(method(candidates)[1])


def test_the_three_votes_of_zps_can_differ() -> None:
    # One row. Probabilities of the first label: 0.001, 0.6, 0.7. The majority says yes; the mean probability is 0.434,
    # so no; the mean log-probability is (ln 0.001 + ln 0.6 + ln 0.7) / 3 = -2.59 against -0.71, so no.
    candidates = of_two([0.001], [0.6], [0.7])
    assert pseudo_labels(candidates, "majority").tolist() == [0]
    assert pseudo_labels(candidates, "probability").tolist() == [1]
    assert pseudo_labels(candidates, "log_probability").tolist() == [1]
    # 0.02, 0.9, 0.6: the mean probability is 0.507 and says yes, the product 0.0108 against 0.0392 says no.
    candidates = of_two([0.02], [0.9], [0.6])
    assert pseudo_labels(candidates, "probability").tolist() == [0]
    assert pseudo_labels(candidates, "log_probability").tolist() == [1]


def test_zps_scores_agreement_with_the_vote() -> None:
    candidates = of_two([0.9, 0.2, 0.8, 0.7], [0.8, 0.3, 0.9, 0.4], [0.1, 0.9, 0.6, 0.6])
    # Majority: yes, no, yes, yes.
    np.testing.assert_allclose(zps(candidates, "majority"), [1.0, 0.75, 0.5])


def test_a_row_without_an_answer_has_no_vote_and_is_no_agreement() -> None:
    candidates = of_two([0.9, 0.9], [0.1, 0.9], answered=[[True, True], [False, True]])
    assert pseudo_labels(candidates, "probability").tolist() == [0, 0]
    np.testing.assert_allclose(zps(candidates, "probability"), [1.0, 0.5])
    nobody = of_two([0.9], [0.9], answered=[[False], [False]])
    assert pseudo_labels(nobody, "majority").tolist() == [NO_ANSWER]
    assert agreement(nobody, pseudo_labels(nobody, "majority")).tolist() == [0.0, 0.0]


def test_spell_is_minus_the_mean_perplexity_of_the_inputs_that_were_asked_about() -> None:
    nan = float("nan")
    np.testing.assert_allclose(spell(np.array([[2.0, 4.0, nan], [8.0, nan, nan]])), [-3.0, -8.0])


def test_a_prompt_without_a_perplexity_is_named() -> None:
    with pytest.raises(OutputsError, match="candidate 1 has no perplexity"):
        spell(np.array([[2.0], [float("nan")]]))


def test_columns_are_matched_by_label_name() -> None:
    one = Outputs("probabilities", np.array([[0.9, 0.1]], np.float32), ("yes", "no"))
    other = Outputs("probabilities", np.array([[0.2, 0.8]], np.float32), ("no", "yes"))
    candidates = Candidates.of(["a", "b"], [one, other])
    np.testing.assert_allclose(candidates.probabilities[:, 0, 0], [0.9, 0.8], rtol=1e-6)


def test_candidates_of_different_labels_are_refused() -> None:
    one = Outputs("probabilities", np.array([[0.9, 0.1]], np.float32), ("yes", "no"))
    other = Outputs("probabilities", np.array([[0.9, 0.1]], np.float32), ("good", "bad"))
    with pytest.raises(OutputsError, match="b answers good, bad, but a answers yes, no"):
        Candidates.of(["a", "b"], [one, other])
