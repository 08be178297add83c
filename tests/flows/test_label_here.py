"""Labels given in a terminal are in the file before the next is asked for."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest

from flows.label_here import label_here


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "texts.to_label.csv"
    path.write_text("text,text_pair,label\na,,\nb,,no\nc,\x1b[2J,\nd,,\ne,,\n", encoding="utf-8")
    return path


def labels_of(file: Path) -> list[str]:
    return [line["label"] for line in csv.DictReader(file.open(encoding="utf-8"))]


def answering(monkeypatch: pytest.MonkeyPatch, *lines: str) -> Terminal:
    shown = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))
    monkeypatch.setattr(sys, "stdout", shown)
    return shown


def test_numbers_and_names_stand_for_labels(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = answering(monkeypatch, "y", "2", "perhaps", "NO", "", "1")
    assert label_here(file, ["no", "yes"])
    assert labels_of(file) == ["yes", "no", "no", "", "no"]
    assert "'perhaps' is none of them: 1 no, 2 yes" in shown.getvalue()
    assert "\x1b" not in shown.getvalue()


def test_what_was_given_stays_where_the_person_leaves(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "", "yes")
    assert label_here(file, ["no", "yes"])
    assert labels_of(file) == ["yes", "no", "", "", ""]


def test_labels_that_are_numbers_are_themselves(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "y", "0", "2", "1")
    assert label_here(file, ["1", "0"])
    assert labels_of(file) == ["0", "no", "1", "", ""]


def test_nobody_is_asked_without_a_terminal_or_against_their_will(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()
    answering(monkeypatch, "n")
    assert not label_here(file, ["no", "yes"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n1\n"))
    assert not label_here(file, ["no", "yes"])
    assert file.read_bytes() == before
