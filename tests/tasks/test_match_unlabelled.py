"""Models in groups by what they answer, labels from a file, and right answers counted."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from fute.errors import DataError
from fute.types import Outputs, TextTable
from tasks.labels_file import ask_for_labels
from tasks.match_unlabelled import Answers, answered, answers_of, counted, judged

TEXTS = TextTable([f"text {i}" for i in range(60)])
TRUTH = np.arange(60) % 2


def model(name: str, classes: tuple[str, ...], right: float, seed: int = 0) -> Answers:
    wrong = np.random.default_rng(seed).random(60) >= right
    return Answers(name, "python", classes, np.where(wrong, 1 - TRUTH, TRUTH))


GOOD = [model(f"good{i}", ("no", "yes"), 0.85, i) for i in range(5)]


def test_classes_in_another_order_and_case_are_the_same_question() -> None:
    other = Answers("other", "python", ("YES", "No"), 1 - GOOD[0].said)
    group, *rest = judged([*GOOD, other, model("spam", ("ham", "spam"), 0.9)])
    assert {m.model for m in group.models} == {"other", *(m.model for m in GOOD)}
    by_name = {m.model: m for m in group.models}
    assert by_name["other"].expected == by_name["good0"].expected
    assert by_name["other"].shares == by_name["good0"].shares
    assert [m.model for m in rest[0].models] == ["spam"]
    assert "3 are needed" in str(rest[0].models[0].unknown)


def test_a_label_that_no_model_answers_is_refused() -> None:
    with pytest.raises(DataError, match="no model answers perhaps.*no, yes"):
        judged(GOOD, {3: "perhaps"})


def test_on_a_text_whose_label_is_none_of_theirs_models_are_wrong() -> None:
    spam = [model(f"spam{i}", ("ham", "spam"), 0.9, i) for i in range(4)]
    labelled = {row: "yes" if TRUTH[row] else "no" for row in range(30)} | {30: "ham"}
    groups = {tuple(group.labels): group for group in judged([*GOOD, *spam], labelled)}
    assert {group.labelled for group in groups.values()} == {31}
    right, wrong = groups["no", "yes"].models[0], groups["ham", "spam"].models[0]
    assert right.low is not None
    assert wrong.high is not None
    assert wrong.high < right.low


def test_nothing_is_said_of_models_none_of_whose_labels_was_given() -> None:
    spam = [model(f"spam{i}", ("ham", "spam"), 0.9, i) for i in range(8)]
    ours, theirs = judged([*GOOD, *spam], {0: "no", 1: "yes", 2: "no"})
    assert ours.models[0].expected is not None
    assert {m.expected for m in theirs.models} == {None}
    assert "none of the labels that you gave" in str(theirs.models[0].unknown)


def test_a_model_that_never_answered_says_nothing() -> None:
    nothing = Outputs("labels", np.zeros((3, 2), np.float32), ("no", "yes"), np.zeros(3, bool))
    assert answers_of("silent", "prompt", nothing) is None


def test_a_file_of_labels_is_written_filled_in_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "to_label.csv"

    def found(wanted: int, answers: list[Answers] = GOOD) -> tuple[int, str]:
        result = answered("t", TEXTS, answers, [], file, wanted, (), asked=True)
        return result.groups[0].labelled, result.to_label

    assert found(8) == (0, str(file))
    lines = list(csv.DictReader(file.open(encoding="utf-8")))
    assert len(lines) == 8
    assert all(line["label"] == "" and line["text"] in TEXTS.texts for line in lines)
    for line in lines[:6]:
        line["label"] = " Yes" if TRUTH[TEXTS.texts.index(line["text"])] else "no"
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    assert found(8) == (6, str(file))
    assert found(12) == (6, str(file))  # four more are added, and nothing is lost
    assert [*csv.DictReader(file.open(encoding="utf-8"))][:8] == [
        {**line, "label": line["label"].strip()} for line in lines
    ]


def test_texts_of_another_file_count_for_nothing_and_stay(tmp_path: Path) -> None:
    file = tmp_path / "to_label.csv"
    file.write_text('text,text_pair,label\nelsewhere,,yes\n"text 4",,no\n', encoding="utf-8")
    assert ask_for_labels(file, TEXTS, 2, lambda k: list(range(k))) == {4: "no"}
    assert file.read_text(encoding="utf-8").splitlines()[1:] == ["elsewhere,,yes", "text 4,,no", "text 0,,"]


def test_line_ends_neither_of_the_texts_nor_of_a_spreadsheet_lose_a_label(tmp_path: Path) -> None:
    file, inputs = tmp_path / "to_label.csv", TextTable(["one\r\nline", "two\nlines", "three"])
    assert ask_for_labels(file, inputs, 3, lambda k: list(range(k))) == {}
    written = file.read_bytes().replace(b'line",,', b'line",,yes').replace(b'lines",,', b'lines",,no')
    file.write_bytes(written.replace(b"two\nlines", b"two\r\nlines"))
    assert ask_for_labels(file, inputs, 3, lambda k: list(range(k))) == {0: "yes", 1: "no"}
    assert len([*csv.DictReader(file.open(encoding="utf-8", newline=""))]) == 3


@pytest.mark.parametrize("content", [b"text;label\na;b\n", "text,text_pair,label\n\xe9,,x\n".encode("latin-1")])
def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "to_label.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match="to_label.csv"):
        ask_for_labels(file, TEXTS, 2, lambda k: list(range(k)))
    assert file.read_bytes() == content


def test_with_all_labels_right_answers_are_counted_and_silence_is_wrong() -> None:
    half = GOOD[0].said.copy()
    half[:30] = -1
    group = counted([GOOD[0], Answers("half", "python", ("no", "yes"), half)], TRUTH, ("no", "yes"))
    best, silent = group.models
    assert best.expected == pytest.approx((GOOD[0].said == TRUTH).mean(), abs=0.05)
    assert best.low is not None
    assert best.expected is not None
    assert best.low < best.expected
    assert (silent.model, silent.expected) == ("half", pytest.approx((half == TRUTH).mean(), abs=0.05))
