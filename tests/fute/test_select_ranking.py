"""Choosing without labels: opposite prompts are found out, references turn a wrong majority, silence does not pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fute.errors import ConfigError, MethodError
from fute.select.candidates import NO_ANSWER, Candidates
from fute.select.consensus import consensus, merits
from fute.select.entropy import global_entropy, mutual_information
from fute.select.ranking import (
    METHODS,
    Evidence,
    consensus_accuracy,
    method,
    oriented_information,
    rank_candidates,
    recommended,
)
from fute.select.references import trusted_answers
from fute.select.strength import LabelledTexts, TargetSpace, leading_factor
from fute.types import Outputs, TextTable

pytestmark = pytest.mark.kernels

WIDTH = 24


def texts(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features of n texts of two classes that differ along one axis, and the classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    features = rng.normal(size=(n, WIDTH))
    features[:, 0] += 4.0 * labels - 2.0
    return features.astype(np.float32), labels


def candidates_with(accuracies: list[float], labels: NDArray[np.int64], seed: int = 1) -> Candidates:
    """Candidates of two labels that are right on so many rows, each wrong on rows of its own."""
    rng = np.random.default_rng(seed)
    right = rng.random((len(accuracies), len(labels))) < np.array(accuracies)[:, None]
    said = np.where(right, labels, 1 - labels)
    values = np.where(said[:, :, None] == np.arange(2), 0.8, 0.2)
    ids = tuple(f"prompt-{i}" for i in range(len(accuracies)))
    return Candidates(ids, values, np.ones(said.shape, bool), ("bad", "good"), np.ones(len(ids), np.int64))


def evidence(accuracies: list[float], n: int = 300) -> tuple[Evidence, NDArray[np.int64]]:
    features, labels = texts(n, seed=0)
    known, classes = texts(400, seed=5)
    space = TargetSpace.fit(features, [LabelledTexts("related", known, classes)], 2)
    return Evidence(candidates_with(accuracies, labels), space), labels


def test_consensus_puts_candidates_in_the_order_of_their_accuracy() -> None:
    accuracies = [0.9, 0.6, 0.8, 0.7, 0.5]
    found, _ = evidence(accuracies)
    alone = Evidence(found.candidates)
    for given in (found, alone):
        assert np.argsort(-consensus_accuracy(given)).tolist() == [0, 2, 3, 1, 4]


def test_a_prompt_that_answers_the_opposite_comes_last_where_an_entropy_prefers_it() -> None:
    found, labels = evidence([0.8, 0.75, 0.7, 0.05])
    true = (found.candidates.labels == labels).mean(axis=1)
    assert consensus_accuracy(found).argmin() == true.argmin() == 3
    assert global_entropy(found.candidates)[3] > 0.99 * np.log(2)


def test_references_turn_a_majority_that_answers_the_opposite() -> None:
    found, _ = evidence([0.2, 0.25, 0.15, 0.3, 0.85])
    assert consensus_accuracy(found).argmax() == 4
    assert consensus_accuracy(Evidence(found.candidates)).argmin() == 4  # what the prompts say among themselves


def trusted(accuracy: float, labels: NDArray[np.int64], names: tuple[str, ...] = ("bad", "good")) -> Outputs:
    right = np.random.default_rng(11).random(len(labels)) < accuracy
    said = np.where(right, labels, 1 - labels)
    columns = [{"bad": 0, "good": 1}.get(name, 2) for name in names]
    return Outputs("labels", (said[:, None] == np.array(columns)).astype(np.float32), names)


def test_a_trusted_models_answers_are_a_reference_whatever_the_order_of_its_labels() -> None:
    features, labels = texts(300, seed=0)
    table = TextTable([f"text {i}" for i in range(300)])
    found = []
    for names in (("bad", "good"), ("good", "other", "bad")):
        reference = trusted_answers("judge", trusted(0.85, labels, names), ("bad", "good"), table, lambda _: features)
        space = TargetSpace.fit(features, [reference], 2)
        assert (space.predicted()[0] == labels).mean() > 0.8
        np.testing.assert_array_equal(space.rows(np.arange(9)).predicted(), space.predicted()[:, :9])
        majority_is_wrong = Evidence(candidates_with([0.2, 0.25, 0.15, 0.3, 0.85], labels), space)
        assert consensus_accuracy(majority_is_wrong).argmax() == 4
        found.append(METHODS["oriented_strength"](majority_is_wrong))
        assert found[-1].argmax() == 4
    np.testing.assert_allclose(found[0], found[1])


def test_a_trusted_model_that_is_silent_on_some_texts_speaks_of_the_others() -> None:
    features, labels = texts(100, seed=0)
    table = TextTable([f"text {i}" for i in range(100)])
    outputs = trusted(1.0, labels)
    silent = replace(outputs, values=outputs.values.copy(), answered=np.arange(100) % 2 == 0)
    reference = trusted_answers("judge", silent, ("bad", "good"), table, lambda _: features)
    assert len(reference.features) == len(reference.labels) == 50
    predicted = TargetSpace.fit(features, [reference], 2).predicted()[0]
    np.testing.assert_array_equal(predicted[::2], labels[::2])
    assert set(predicted[1::2]) <= {0, 1}


def test_a_trusted_model_must_share_two_labels_by_name_and_use_them() -> None:
    features, labels = texts(40, seed=0)
    table = TextTable([f"text {i}" for i in range(40)])
    for outputs, message in (
        (trusted(1.0, labels, ("good", "neutral")), "answers with good, neutral, the candidates with bad, good"),
        (Outputs("scores", np.ones((40, 1), np.float32)), "answers with scores without label names"),
        (trusted(1.0, np.zeros(40, np.int64)), "fewer than two of the candidates' labels"),
    ):
        with pytest.raises(MethodError, match=message):
            trusted_answers("judge", outputs, ("bad", "good"), table, lambda _: features)


def test_references_that_know_nothing_do_no_harm() -> None:
    features, labels = texts(300, seed=0)
    known, _ = texts(400, seed=5)
    noise = np.random.default_rng(3).integers(2, size=400)
    space = TargetSpace.fit(features, [LabelledTexts("unrelated", known, noise)], 2)
    found = Evidence(candidates_with([0.9, 0.8, 0.7, 0.65, 0.6], labels), space)
    assert np.argsort(-consensus_accuracy(found)).tolist() == [0, 1, 2, 3, 4]


def test_oriented_methods_see_the_opposite_and_closeness_does_not() -> None:
    found, _ = evidence([0.95, 0.6, 0.05])
    for name in ("oriented_closeness", "oriented_strength", "reference_agreement", "consensus_strength"):
        scores = METHODS[name](found)
        assert scores.argmax() == 0, name
        assert scores.argmin() == 2, name
    plain = METHODS["closeness"](found)
    assert plain[2] > plain[1]


def test_silence_on_half_of_the_rows_does_not_pay() -> None:
    found, _ = evidence([0.9, 0.8])
    answered = found.candidates.answered.copy()
    answered[0, ::2] = False
    silent = Candidates(
        found.candidates.ids,
        found.candidates.probabilities * answered[:, :, None],
        answered,
        found.candidates.label_names,
        found.candidates.calls_per_row,
    )
    assert consensus_accuracy(Evidence(silent, found.space)).argmax() == 1


def test_consensus_weighs_a_good_voter_above_two_bad_ones() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=600)
    noisy = [np.where(rng.random(600) < p, labels, rng.integers(3, size=600)) for p in (0.95, 0.7, 0.3, 0.3)]
    votes = np.stack(noisy)
    found = consensus(votes, 3)
    majority = np.stack([(votes == c).sum(axis=0) for c in range(3)]).argmax(axis=0)
    assert (found.posterior.argmax(axis=1) == labels).mean() > (majority == labels).mean()
    np.testing.assert_allclose(found.posterior.sum(axis=1), 1.0)
    np.testing.assert_allclose(found.confusions.sum(axis=2), 1.0)


def test_a_row_that_nobody_answered_gets_the_overall_shares() -> None:
    votes = np.array([[0, 0, 0, 1, NO_ANSWER], [0, 0, 0, 1, NO_ANSWER]])
    posterior = consensus(votes, 2).posterior
    assert posterior[4, 0] == pytest.approx(posterior[:, 0].mean(), abs=0.05)


def test_merits_are_the_posterior_of_the_given_label() -> None:
    values = np.array([[[0.9, 0.1], [0.2, 0.8], [0.0, 0.0]]])
    there = np.array([[True, True, False]])
    candidates = Candidates(("a",), values, there, ("bad", "good"), np.ones(1, np.int64))
    posterior = np.array([[0.7, 0.3], [0.4, 0.6], [0.5, 0.5]])
    np.testing.assert_allclose(merits(candidates, posterior), [[0.7, 0.6, 0.0]])


def test_leading_factor_recovers_loadings_and_their_signs() -> None:
    loadings = np.array([0.9, 0.5, 0.7, -0.6])
    products = np.outer(loadings, loadings) + np.diag([0.3, 0.1, 0.2, 0.4])
    np.testing.assert_allclose(leading_factor(products), loadings, atol=1e-4)


def test_a_ranking_has_intervals_around_its_scores_and_says_who_was_first_how_often() -> None:
    found, _ = evidence([0.9, 0.6, 0.6])
    ranking = rank_candidates(found, "consensus", resamples=40, seed=3)
    assert ranking.order[0] == 0
    assert ranking.best.sum() == pytest.approx(1.0)
    assert ranking.best[0] > 0.95
    assert (ranking.low < ranking.scores).all()
    assert (ranking.scores < ranking.high).all()
    again = rank_candidates(found, "consensus", resamples=40, seed=3)
    np.testing.assert_array_equal(ranking.low, again.low)


def test_without_resamples_there_is_no_interval() -> None:
    found, _ = evidence([0.9, 0.6])
    ranking = rank_candidates(found, "global_entropy", resamples=0)
    np.testing.assert_array_equal(ranking.low, ranking.high)


def test_an_unknown_method_and_missing_references_are_named() -> None:
    found, _ = evidence([0.9, 0.6])
    with pytest.raises(ConfigError, match="no selection method 'entropy'; there are: oriented_information, consensus"):
        method("entropy")
    with pytest.raises(MethodError, match="give labelled datasets"):
        rank_candidates(Evidence(found.candidates), "oriented_strength")


def test_oriented_information_is_mutual_information_with_the_sign_of_the_consensus() -> None:
    found, _ = evidence([0.9, 0.8, 0.7, 0.05])
    plain = mutual_information(found.candidates)
    np.testing.assert_allclose(oriented_information(found), plain * [1, 1, 1, -1], atol=1e-12)


def test_silence_costs_information_and_turns_no_labels_round() -> None:
    found, _ = evidence([0.9, 0.8, 0.7, 0.6])
    silent = np.arange(found.candidates.n_rows) % 2 == 0
    answered = found.candidates.answered.copy()
    answered[1, silent] = False
    values = np.where(answered[:, :, None], found.candidates.probabilities, 0.0)
    half = Evidence(Candidates(found.candidates.ids, values, answered, ("bad", "good"), np.ones(4, np.int64)))
    scores, whole = oriented_information(half), oriented_information(found)
    # Right on most of what it answers, and on less than half of all rows.
    assert consensus_accuracy(half)[1] < 0.5
    assert 0.3 * whole[1] < scores[1] < 0.7 * whole[1]


def test_information_from_certain_answers_is_not_compared_with_that_from_graded_ones() -> None:
    found, _ = evidence([0.9, 0.8, 0.7])
    assert recommended(found.candidates) == "oriented_information"
    values = found.candidates.probabilities.copy()
    values[1] = np.round(values[1])
    mixed = Candidates(found.candidates.ids, values, found.candidates.answered, ("bad", "good"), np.ones(3, np.int64))
    assert recommended(mixed) == "consensus"


def test_of_two_without_references_the_one_that_always_says_the_same_does_not_win() -> None:
    found, _ = evidence([0.85, 0.5])
    values = found.candidates.probabilities.copy()
    values[0], values[1] = np.round(values[0]), [0.0, 1.0]
    ones = np.ones(2, np.int64)
    two = Candidates(found.candidates.ids, values, found.candidates.answered, ("bad", "good"), ones)
    assert rank_candidates(Evidence(two), "consensus", resamples=0).order[0] == 1  # which it would do
    name = recommended(two)
    assert name == "mutual_information"
    assert rank_candidates(Evidence(two), name, resamples=0).order[0] == 0
    assert recommended(two, n_references=1) == "consensus"
