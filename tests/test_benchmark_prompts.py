"""The prompt benchmark's own arithmetic, on made-up answers: no shared data, no network."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # scripts beside each other, not a package
from prompt_answers import Wording, label_probabilities, read_wordings
from prompt_calibration import Answers, balances, draw, measure
from prompt_selection import HERE, SETS, Case, compare, halve, turn
from prompt_targets import Target, cut, verbalizer_for

from fute.select.candidates import Candidates
from fute.select.strength import LabelledTexts, TargetSpace
from fute.types import TextTable

pytestmark = pytest.mark.slow


def test_label_probabilities_sum_each_labels_words_and_share_their_total() -> None:
    answers = np.array([[0.3, 0.1, 0.2, 0.4]], np.float32)
    found = label_probabilities(answers, ["yes", "no", "good", "film"], {"bad": ["no"], "fine": ["yes", "good"]})
    np.testing.assert_allclose(found, [[1 / 6, 5 / 6]], rtol=1e-6)


def test_a_target_of_two_labels_takes_the_words_of_neutral_and_contradiction_together() -> None:
    words = {"entailment": ["yes"], "neutral": ["maybe"], "contradiction": ["no"]}
    merged = verbalizer_for(words, ["entailment", "not_entailment"])
    assert merged == {"entailment": ["yes"], "not_entailment": ["maybe", "no"]}
    assert list(verbalizer_for(words, ["contradiction", "entailment", "neutral"])) == [
        "contradiction",
        "entailment",
        "neutral",
    ]


@pytest.mark.parametrize("family", ["sentiment", "nli"])
def test_each_set_has_thirteen_prompts_three_of_which_ask_twice(family: str) -> None:
    for path in SETS.values():
        wordings = read_wordings(Path(str(path).format(family)))
        assert len(wordings) == 13
        assert sorted(w.calls for w in wordings) == [1] * 10 + [2] * 3
    assert HERE.name == "benchmarks"


def test_what_is_asked_decides_the_key_and_the_verbalizer_does_not() -> None:
    one = Wording("a", "Good? {{text}}", {"x": ["yes"], "y": ["no"]})
    assert one.key == Wording("b", "Good? {{text}}", {"x": ["no"], "y": ["yes"]}).key
    assert one.key != Wording("a", "Bad? {{text}}", one.verbalizer).key


def test_long_texts_are_cut_at_words() -> None:
    assert cut(TextTable(["word " * 300])).texts[0] == " ".join(["word"] * 100)


def made_up() -> Case:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=200)
    right = rng.random((12, 200)) < np.linspace(0.55, 0.95, 12)[:, None]
    said = np.where(right, labels, 1 - labels)
    values = np.where(said[:, :, None] == np.arange(2), 0.8, 0.2)
    ids = tuple(f"p{i}" for i in range(12))
    found = Candidates(ids, values, np.ones(said.shape, bool), ("no", "yes"), np.ones(12, np.int64))
    features = rng.normal(size=(200, 8)).astype(np.float32)
    features[:, 0] += 3.0 * labels
    space = TargetSpace.fit(features, [LabelledTexts("same", features, labels)], 2)
    target = Target("made up", "none", TextTable([str(i) for i in range(200)]), labels, ("no", "yes"))
    return Case("judging", target, found, space)


def test_the_comparison_gives_the_oracle_most_and_knows_an_opposite() -> None:
    case = made_up()
    found = compare([case], seeds=2, rows=150)
    oracle = found["oracle (labels of the draw)"]["judging made up"]
    assert oracle["rank_correlation"] > 0.9
    assert found["consensus"]["judging made up"]["regret"] < 0.05
    turned = compare([case.turned(0)], seeds=1, rows=150)
    assert turned["consensus"]["judging made up"]["rank_correlation"] > 0.8
    assert turned["zps_majority"]["judging made up"]["rank_correlation"] < 0


def test_turning_round_swaps_the_columns_of_some() -> None:
    found = made_up().evidence.candidates
    turned = turn(found, np.array([1]))
    np.testing.assert_array_equal(turned.probabilities[1], found.probabilities[1][:, ::-1])
    np.testing.assert_array_equal(turned.probabilities[0], found.probabilities[0])


def test_halving_counts_a_share_of_the_calls() -> None:
    for of in halve([made_up()], seeds=1).values():
        assert 0 < of["judging made up"]["share_of_calls"] <= 1 / 3


def test_calibrated_prompts_are_judged_at_every_balance_with_the_bias_of_their_draw() -> None:
    labels = np.repeat([0, 1], 60)
    logits = np.random.default_rng(0).normal(np.where(labels == 1, 2.0, -2.0), 1.0, size=(4, 120))
    leaning = np.array([0.0, 3.0, -3.0, 5.0])[:, None]
    values, nothing = (np.stack([1 / (1 + np.exp(z)), 1 / (1 + np.exp(-z))], -1) for z in (logits + leaning, leaning))
    names, ones = ("bad", "fine"), np.ones((4, 120), bool)
    candidates = Candidates(("a", "b", "c", "d"), values, ones, names, np.ones(4, int))
    answers = Answers("made up", candidates, nothing, labels)
    assert [round(shares[1], 2) for shares in balances(2)] == [0.5, 0.2, 0.8]
    drawn = draw(labels, [0.2, 0.8], 200, np.random.default_rng(0))
    assert (len(drawn), labels[drawn].mean()) == (200, 0.8)
    even = measure(answers, [0.5, 0.5], 2, 100)
    assert even["none"]["median"] < 0.85
    assert min(even[rule]["median"] for rule in ("content_free", "marginal")) > 0.95
    uneven = measure(answers, [0.2, 0.8], 2, 100)
    assert uneven["content_free"]["median"] > 0.95 > uneven["marginal"]["median"]
