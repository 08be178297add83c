"""What is said of one model and a target, and in which words."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flows.match_answer import answer
from fute.match.accuracy import interval
from fute.match.readout import ReadOut
from fute.types import Outputs, Split, TextTable
from storage.vectors import StoredEmbedding
from tasks.match import _matched, _place, held_out_scores
from tasks.match_target import Labelled
from tasks.matched import Match, Matched

NAMES = ("bad", "good")
MODEL = StoredEmbedding({"subject": "m", "subject_kind": "python"}, np.ones(1, np.float32))


def told(
    classes: tuple[str, ...],
    *,
    unlike: bool = False,
    agreement: float = 0.9,
    kind: Any = "probabilities",
    seen: bool = True,
    pairs: bool = False,
) -> Matched:
    """Of a model whose first class is given to the second half of 40 texts, which are good.

    Args:
        seen: else one half of each of them gets it.
    """
    good = np.arange(40) >= 20
    given = good if seen else np.arange(40) % 2 == 0
    kernel = np.stack([given, ~given], axis=1).astype(float)
    read = None if kind == "scores" else ReadOut(np.eye(2), np.zeros(2), 0.9, agreement)
    outputs = Outputs(kind, np.zeros((3, 2), np.float32), label_names=classes)
    texts = [f"text {i}" for i in range(40)]
    split = Split(TextTable(texts, texts if pairs else None), good.astype(np.int64))
    return _matched(MODEL, outputs, read, kernel, Labelled("test", split, NAMES, "good", 0.5), unlike)


def test_classes_are_read_as_the_labels_that_they_go_with() -> None:
    right = told(("Good", "Bad"))
    assert right.accuracy is not None
    assert right.accuracy.expected == right.as_named == 1.0
    assert right.meaning == {"Good": "good", "Bad": "bad"}
    assert not right.turned


def test_a_model_that_answers_the_other_way_round_is_named() -> None:
    turned = told(("bad", "good"))
    assert turned.accuracy is not None
    assert turned.accuracy.expected == 1.0
    assert turned.as_named == 0.0
    assert turned.turned
    assert "another order than their classes are named: m." in "\n".join(answer(match(turned), [turned]))


def test_classes_of_other_names_are_neither_named_nor_turned() -> None:
    other = told(("spam", "ham"))
    assert (other.as_named, other.turned) == (None, False)
    assert other.meaning == {"spam": "good", "ham": "bad"}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"agreement": 0.1}, "do not say what it answers"),
        ({"kind": "scores"}, "scores, not with classes"),
        ({"pairs": True, "seen": False}, "what it makes of two texts"),
        ({"unlike": True}, "unlike the pool's"),
    ],
)
def test_what_cannot_be_vouched_for_is_unknown_and_says_why(settings: dict[str, Any], why: str) -> None:
    unknown = told(NAMES, **settings)
    assert unknown.accuracy is None
    assert why in str(unknown.unknown)


def test_finding_nothing_says_something_of_single_texts_and_finding_something_of_pairs() -> None:
    for found in (told(NAMES, seen=False), told(NAMES, pairs=True)):
        assert found.accuracy is not None


def match(*models: Matched, split: str = "test") -> Match:
    cautions = ("file.csv: the labels 'a', 'A' differ",)
    return Match("file.csv", 40, 2, split, NAMES, "bad", 0.5, "space", "pool", 3000, models, cautions)


def test_the_answer_says_the_best_first_and_nobody_where_all_are_chance() -> None:
    best, chance = told(("good", "bad")), told(NAMES)
    said = list(answer(match(best), [best]))
    assert said[0] == "file.csv: 40 labelled texts, 2 labels; always 'bad' would be right in 0.50."
    assert said[1] == "2 rows were left out: without a text, a second text or a label, or there twice."
    assert said[2] == "note: file.csv: the labels 'a', 'A' differ"
    assert said[3].startswith("m will be right in about 1.00 of such texts (0.")
    nobody = list(answer(match(chance, split="train"), []))
    assert "It has no test split: these are the texts that models may have been trained on." in nobody
    assert "No model is surely better than that." in nobody


def test_where_nothing_is_known_of_any_model_it_says_so_and_not_that_none_is_better() -> None:
    said = "\n".join(answer(match(told(NAMES, unlike=True)), []))
    assert "How often models will be right is unknown: these texts are unlike the pool's" in said
    assert "No model is" not in said


def test_labels_that_the_best_never_gives_and_how_its_classes_are_read_are_told() -> None:
    best = replace(told(("good", "bad")), meaning={"spam": "good", "ham": "good"})
    said = "\n".join(answer(match(best), [best]))
    assert "It never answers bad." in said
    assert "Its classes are read so: spam as good, ham as good." in said
    assert "It never" not in "\n".join(answer(match(told(("good", "bad"))), [told(("good", "bad"))]))


def test_a_held_out_score_stands_for_the_very_dataset_that_it_was_counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(dataset_fingerprint="new", held_out="test", score=0.9, n_held_out=40)
    monkeypatch.setattr("tasks.match.read_card", lambda folder: card)
    store: Any = SimpleNamespace(has_model=lambda ref, trained: True, weights_folder=lambda ref: None)
    row = {"subject": "m", "subject_kind": "trained tfidf", "task": "d", "subject_fingerprint": "f"}
    models = [StoredEmbedding(row, np.ones(1, np.float32))]

    def found(fingerprint: str, exact: int = 0) -> list[str]:
        rows = {"seen": 40, "left_out": {}}
        report = {"splits": {"test": rows}, "overlap": {"test": {"normalised": exact}}}
        dataset: Any = SimpleNamespace(id="d", fingerprint=fingerprint, report=report)
        return list(held_out_scores(store, dataset, models))

    assert found("new") == ["m"]
    assert found("another version") == []
    assert found("new", exact=20) == []  # half of its held-out texts are training texts


def test_better_counts_how_many_models_there_were() -> None:
    model = told(("good", "bad"))
    assert model.accuracy is not None
    fair = interval(0.68, 0.5, 60, 1.0)
    some = [replace(model, model=f"m{i}", accuracy=fair, balanced=fair) for i in range(40)]
    assert match(some[0]).better() == some[:1]
    assert match(*some).better() == []


def test_a_detector_of_what_is_rare_is_better_although_its_accuracy_is_that_of_finding_nothing() -> None:
    model, even = told(("good", "bad")), interval(0.95, 0.95, 1000, 0.9)
    detector = replace(model, model="detector", accuracy=even, balanced=interval(0.8, 0.5, 190, 0.9))
    other = replace(model, model="other", accuracy=even, balanced=interval(0.52, 0.5, 190, 0.9), score=9.0)
    assert match(other, detector).better() == [detector]
    assert sorted([other, detector], key=lambda m: _place(m, 2)) == [detector, other]
