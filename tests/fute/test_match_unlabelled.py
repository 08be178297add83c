"""How often models are right without labels, and with a few: planted answers, whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from fute.match.unlabelled import FEWEST_MODELS, judge, worth_labelling


def planted(accuracies: list[float], n: int = 400, n_labels: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Answers of models that err independently, and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(n_labels, size=n)
    wrong = (truth + rng.integers(1, n_labels, size=(len(accuracies), n))) % n_labels
    right = rng.random((len(accuracies), n)) < np.array(accuracies)[:, None]
    return np.where(right, truth, wrong), truth


def test_models_that_agree_are_ranked_and_their_accuracy_lies_within() -> None:
    accuracies = [0.95, 0.85, 0.75, 0.65, 0.55]
    answers, truth = planted(accuracies)
    found = judge(answers, 2).accuracies
    assert found is not None
    assert [a.expected for a in found] == sorted((a.expected for a in found), reverse=True)
    for each, right in zip(found, (answers == truth).mean(axis=1), strict=True):
        assert each.low <= right <= each.high


@pytest.mark.parametrize("models", [1, FEWEST_MODELS - 1])
def test_of_too_few_models_nothing_is_said(models: int) -> None:
    answers, _ = planted([0.9] * models)
    assert judge(answers, 2).accuracies is None


def test_of_models_that_agree_by_chance_nothing_is_said() -> None:
    answers = np.random.default_rng(0).integers(2, size=(6, 400))
    assert judge(answers, 2).accuracies is None


def test_labels_say_of_models_that_agree_by_chance_who_is_right() -> None:
    answers, truth = planted([0.95, 0.5, 0.5, 0.5, 0.5])
    rows = np.arange(0, 400, 4)
    found = judge(answers, 2, rows, truth[rows]).accuracies
    assert found is not None
    assert found[0].low > max(a.expected for a in found[1:])


def test_labels_correct_models_that_err_together_and_every_label_narrows() -> None:
    answers, truth = planted([0.9] * 5)
    together = np.random.default_rng(1).random(400) < 0.5  # where all give the same wrong answer
    answers = np.where(together, 1 - truth, answers)
    rows = np.arange(400)
    before = judge(answers, 2).accuracies
    assert before is not None
    widths, errors = [before[0].high - before[0].low], [abs(before[0].expected - 0.45)]
    for k in (10, 100):
        of = rows[:: 400 // k]
        found = judge(answers, 2, of, truth[of]).accuracies
        assert found is not None
        widths.append(found[0].high - found[0].low)
        errors.append(abs(found[0].expected - (answers[0] == truth).mean()))
    assert widths == sorted(widths, reverse=True)
    assert errors[2] < errors[0]


def test_the_order_of_models_texts_and_labels_does_not_matter() -> None:
    answers, _ = planted([0.9, 0.8, 0.7, 0.6], n_labels=3)
    found = judge(answers, 3).accuracies
    order, texts, names = np.array([2, 0, 3, 1]), np.random.default_rng(1).permutation(400), np.array([1, 2, 0])
    again = judge(names[answers[order][:, texts]], 3).accuracies
    assert found is not None
    assert again is not None
    for here, there in zip(again, order, strict=True):
        assert here.expected == pytest.approx(found[there].expected, abs=1e-6)
        assert here.low == pytest.approx(found[there].low, abs=1e-6)


def test_a_model_with_its_labels_turned_is_named_so_and_not_for_being_bad() -> None:
    answers, _ = planted([0.9, 0.9, 0.85, 0.85, 0.1, 0.5], n=600)
    assert judge(answers, 2).turned == (None, None, None, None, (1, 0), None)


def test_silence_is_wrong() -> None:
    answers, _ = planted([0.9] * 5)
    silent = answers.copy()
    silent[0, :200] = -1
    found, with_all = judge(silent, 2).accuracies, judge(answers, 2).accuracies
    assert found is not None
    assert with_all is not None
    assert found[0].expected < found[1].expected
    assert found[0].expected < with_all[0].expected - 0.2


def test_texts_worth_a_label_are_more_often_those_on_which_good_models_disagree() -> None:
    answers, _ = planted([0.9, 0.9, 0.85, 0.85, 0.8])
    chosen = worth_labelling(answers, 2, 40)
    disagreed = answers.min(axis=0) != answers.max(axis=0)
    assert len(set(chosen.tolist())) == 40
    assert disagreed[chosen].mean() > disagreed.mean() + 0.1
    assert not disagreed[chosen].all()


def test_no_more_texts_are_chosen_than_there_are() -> None:
    answers, _ = planted([0.9, 0.8, 0.7], n=5)
    assert worth_labelling(answers, 2, 10).tolist() == [0, 1, 2, 3, 4]
