"""Some 600 forms of answers from many hosts and in many languages: how many are read rightly, and none wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fute.llm.types import Answer
from fute.llm.verbalizer import Verbalizer

FORMS = yaml.safe_load((Path(__file__).parents[1] / "data" / "answer_forms.yaml").read_text(encoding="utf-8"))


def readings(part: str) -> list[tuple[list[Any], str | None]]:
    """Each form with the label that is read from it, None where none is."""
    found = []
    for group in FORMS[part]:
        verbalizer = Verbalizer(group["words"])
        for form in group["forms"]:
            text, _, finish = [*form, "stop"][:3]
            probabilities = verbalizer.read(Answer(text, finish_reason=finish)).probabilities
            label = None if probabilities is None else verbalizer.label_names[int(probabilities.argmax())]
            found.append((form, label))
    return found


@pytest.mark.parametrize(("part", "at_least", "accuracy"), [("tuned", 450, 0.98), ("kept", 120, 0.95)])
def test_answers_are_read_rightly_or_not_at_all(part, at_least, accuracy):
    found = readings(part)
    wrong = [(form, label) for form, label in found if label is not None and label != form[1]]
    unreadable = [form for form, label in found if label is None and form[1] is not None]
    right = len(found) - len(wrong) - len(unreadable)
    print(f"{part}: {right} of {len(found)} right, {len(unreadable)} not read, {len(wrong)} read as another label")
    assert len(found) >= at_least
    assert not wrong, wrong
    assert right >= accuracy * len(found), unreadable


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        ("negative", True),
        ("The answer is negative.", True),
        ('{"label": "negative"}', True),
        ("negative, because of its end", True),
        ("This is clearly a negative review", False),  # the only label that is named
        ("It is not positive.", False),  # the only one that is left
    ],
)
def test_a_label_that_was_not_said_to_be_the_answer_is_not_certain(text, certain):
    read = Verbalizer({"positive": ["positive"], "negative": ["negative"], "no": ["-"]} | {"no": ["neutral"]}).read
    two = Verbalizer({"positive": ["positive"], "negative": ["negative"]}).read(Answer(text)).probabilities
    np.testing.assert_allclose(two, [0, 1] if certain else [0.1, 0.9], rtol=1e-6)
    three = read(Answer(text)).probabilities
    if "not" not in text:
        np.testing.assert_allclose(three, [0, 1, 0] if certain else [0.05, 0.9, 0.05], rtol=1e-6)
    else:
        assert three is None


def test_of_three_labels_one_that_is_denied_leaves_no_answer():
    verbalizer = Verbalizer({"for": ["support"], "against": ["oppose"], "none": ["neutral"]})
    assert verbalizer.read(Answer("The author does not support it")).source == "unparsable"
