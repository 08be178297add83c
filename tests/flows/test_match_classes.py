"""`fute match FILE --class A B` and what `fute show` says of turned labels, on a small store of real models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from tests.flows.test_accuracies import ZOO, write

RULES = '''
def upside(texts, pairs):
    """Whether a text has a word of the sad ones, under the name of the glad ones."""
    return [[0.9, 0.1] if {"gloomy", "wept", "bitter", "miserable"} & set(t.split()) else [0.1, 0.9] for t in texts]
'''
UPSIDE = {"kind": "python", "id": "upside", "entry_point": "upside:upside", "label_names": ["glad", "sad"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    study = write(folder, [*ZOO, UPSIDE])
    (folder / "upside.py").write_text(RULES)
    ran = call("run", str(study))
    assert ran.exit_code == 0, ran.output
    return folder


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def match(folder: Path, file: str, *arguments: str) -> Result:
    return call("match", str(folder / file), *arguments, "--store", str(folder / "store"))


def test_a_model_of_three_classes_tells_two_of_them_apart_and_keeps_nothing(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "store").rglob("*") if path.is_file()}
    told = match(folder, "topic-test.parquet", "--class", "sport", "food")
    assert told.exit_code == 0, told.output
    assert "tfidf/topic tells them apart in about" in told.output
    assert "by its classes 'sport' for 'sport' and 'food' for 'food'" in told.output
    found = json.loads(match(folder, "topic-test.parquet", "--class", "sport", "food", "--json").stdout)
    assert found["better"][0] == found["models"][0]["model"] == "tfidf/topic"
    assert found["models"][0]["classes"] == ["sport", "food"]
    assert sum(found["texts"]) < 36  # the others are of travel
    assert {m["model"]: m["unknown"] for m in found["models"]}["length"] == "it answers with scores, not with classes"
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "store").rglob("*") if path.is_file()}


def test_a_model_whose_names_are_turned_is_read_as_what_it_answers(folder: Path) -> None:
    found = json.loads(match(folder, "mood-test.parquet", "--class", "glad", "sad", "--json").stdout)
    assert {"tfidf/mood", "upside"} <= set(found["better"])
    assert {m["model"]: m["classes"] for m in found["models"]}["upside"] == ["sad", "glad"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--class", "sport", "fod"), "did you mean 'food'"),
        (("--class", "sport", "sport"), "named twice"),
        (("--class", "sport", "food", "--keep", "mine"), "--class A B is for a match without --keep"),
    ],
)
def test_labels_that_are_not_there_and_options_that_do_not_go_along_are_refused(
    folder: Path, arguments: tuple[str, ...], expected: str
) -> None:
    refused = match(folder, "topic-test.parquet", *arguments)
    assert refused.exit_code in (1, 2)
    assert expected in refused.output


def test_show_says_against_which_model_its_labels_are_turned(folder: Path) -> None:
    store = ("--store", str(folder / "store"))
    told = call("show", "tfidf/mood", *store)
    assert told.exit_code == 0, told.output
    said = "sure): says 'glad' where it says 'sad', 'sad' where it says 'glad'\n"
    assert "\nturned against upside (" in told.output
    assert said in told.output
    assert told.output.index(said) < told.output.index("\nnearest (")
    (other,) = json.loads(call("show", "upside", "--json", *store).stdout)["turned against"]
    assert other["model"] == "tfidf/mood"
    assert other["probability"] >= 0.9
    assert other["stands_for"] == {"glad": "sad", "sad": "glad"}
    assert "turned against" not in call("show", "tfidf/topic", *store).output
