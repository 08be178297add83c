"""Tables of predictions made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from fute.config import PredictionsModel
from fute.errors import ModelError
from fute.models.build import build_model
from fute.types import Outputs, Pool, TextTable

TABLE = TextTable(["one", "two", "three", "one"])


def ask(folder: Path, columns: dict[str, list[Any]], table: TextTable = TABLE, ending="parquet", **settings) -> Outputs:
    file = folder / f"predictions.{ending}"
    if ending == "csv":
        pyarrow.csv.write_csv(pa.table(columns), file)
    else:
        pq.write_table(pa.table(columns), file)
    config = PredictionsModel(kind="predictions", id="m", file=file.name, **settings)
    return build_model(config, folder).outputs(table)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_rows_are_found_by_number_whatever_their_order(tmp_path: Path, ending: str) -> None:
    columns = {"row": [3, 0, 2, 1], "no": [0.1, 0.2, 0.3, 0.4], "yes": [0.9, 0.8, 0.7, 0.6]}
    outputs = ask(tmp_path, columns, ending=ending, probabilities=["no", "yes"])
    assert outputs.kind == "probabilities"
    assert outputs.label_names == ("no", "yes")
    assert outputs.values[:, 0].tolist() == pytest.approx([0.2, 0.4, 0.3, 0.1])
    assert outputs.answered is None


def test_missing_rows_are_not_answered_and_counted(tmp_path: Path) -> None:
    outputs = ask(tmp_path, {"row": [2, 0], "label": ["b", "a"]}, label="label")
    assert outputs.answered_rows.tolist() == [0, 2]
    assert outputs.values.tolist() == [[1, 0], [0, 0], [0, 1], [0, 0]]
    assert outputs.details == {"rows_in_file": 2, "rows_missing": 2, "rows_duplicate": 0, "rows_unused": 0}


def test_null_predictions_are_not_answered(tmp_path: Path) -> None:
    labels = ask(tmp_path, {"row": [0, 1, 2, 3], "label": ["a", None, "b", "a"]}, label="label")
    assert labels.answered_rows.tolist() == [0, 2, 3]
    columns = {"row": [0, 1, 2, 3], "p": [0.5, None, 1.0, 0.0], "q": [0.5, 1.0, 0.0, 1.0]}
    assert ask(tmp_path, columns, probabilities=["p", "q"]).answered_rows.tolist() == [0, 2, 3]


def test_text_finds_every_pool_row_that_holds_it_and_unknown_texts_are_counted(tmp_path: Path) -> None:
    columns = {"text": ["one", "four", "two"], "p": [[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]}
    outputs = ask(tmp_path, columns, text="text", probabilities=["p"])
    assert outputs.label_names is None
    assert outputs.values[:, 1].tolist() == pytest.approx([0.1, 0.8, 0.0, 0.1])
    assert outputs.answered_rows.tolist() == [0, 1, 3]
    assert outputs.details["rows_unused"] == 1


def test_line_ends_and_blanks_around_a_text_do_not_matter_unless_they_tell_rows_apart(tmp_path: Path) -> None:
    table = TextTable(["one\r\nline", "two ", "three", " three", "four"])
    columns = {"text": ["one\nline", " two", "three", "three ", " four"], "label": ["a", "b", "a", "b", "b"]}
    outputs = ask(tmp_path, columns, table, text="text", label="label")
    assert outputs.answered_rows.tolist() == [0, 1, 2, 4]
    assert outputs.values.argmax(axis=1)[[0, 1, 2, 4]].tolist() == [0, 1, 0, 1]
    both = ask(tmp_path, {"text": ["three\r", "four"], "label": ["a", "b"]}, table, text="text", label="label")
    assert both.answered_rows.tolist() == [4]
    taken = {"text": ["two ", "two", "four"], "label": ["a", "b", "b"]}
    assert ask(tmp_path, taken, table, text="text", label="label").values[1].tolist() == [1, 0]
    offsets = {"text": ["a", "b"], "pair": ["it is", "so"], "start": [0, 0], "end": [2, 2]}
    contexts = TextTable(["a", "b"], [" it is", "so"])
    spans = ask(tmp_path, offsets, contexts, text="text", text_pair="pair", start="start", end="end")
    assert spans.answered_rows.tolist() == [1]  # a blank would shift the other's answer
    numbered = {"row": [0, 1], "text": ["one\nline", "two"], "label": ["a", "b"]}
    assert ask(tmp_path, numbered, table, text="text", label="label").answered_rows.tolist() == [0, 1]


def test_rows_without_a_partner_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ask(tmp_path, {"text": ["one", "two", "thr  ee"], "label": ["a", "b", "a"]}, text="text", label="label")
    (told,) = caplog.messages
    assert told.startswith("m: 1 of the pool's 4 rows have no prediction in predictions.parquet, and 1 of its 3 rows")
    assert "most likely their texts differ" in told
    caplog.clear()
    others = {"row": [0, 1, 2, 3, 0], "y": ["a", "b", "a", "b", "b"], "pool": [POOL.id] * 4 + ["abc"]}
    assert ask(tmp_path, others, POOL.inputs, label="y").details["rows_unused"] == 1
    assert not caplog.messages


def test_pairs_are_told_apart_by_both_texts(tmp_path: Path) -> None:
    table = TextTable(["a", "a", "b"], ["x", "y", None])
    columns = {"text": ["a", "b", "a"], "pair": ["y", None, "x"], "label": ["1", "2", "3"]}
    outputs = ask(tmp_path, columns, table, text="text", text_pair="pair", label="label")
    assert outputs.values.argmax(axis=1).tolist() == [2, 0, 1]
    with pytest.raises(ModelError, match="pool has text pairs only, and a text alone does not say which is meant"):
        ask(tmp_path, columns, TextTable(["a", "b"], ["x", "y"]), text="text", label="label")


def test_a_text_alone_is_the_row_that_has_no_second_text(tmp_path: Path) -> None:
    table = TextTable(["a", "a", "b", "c"], ["x", None, None, "z"])
    outputs = ask(tmp_path, {"text": ["a", "b"], "label": ["1", "2"]}, table, text="text", label="label")
    assert outputs.answered_mask.tolist() == [False, True, True, False]
    assert outputs.values[1:3].argmax(axis=1).tolist() == [0, 1]


def test_equal_duplicates_are_counted_and_contradictions_refused(tmp_path: Path) -> None:
    outputs = ask(tmp_path, {"row": [0, 1, 1, 2, 3], "label": ["a", "b", "b", "a", "b"]}, label="label")
    assert outputs.details["rows_duplicate"] == 1
    with pytest.raises(ModelError, match=r"rows 1 and 2 of predictions\.parquet predict pool row 1 differently"):
        ask(tmp_path, {"row": [0, 1, 1, 2], "label": ["a", "b", "a", "a"]}, label="label")


def test_float_labels_are_a_regression_and_whole_numbers_are_classes(tmp_path: Path) -> None:
    numbers = ask(tmp_path, {"row": [0, 1, 2, 3], "y": [0.5, 1.5, -2.0, 3.0]}, label="y")
    assert (numbers.kind, numbers.values.ravel().tolist()) == ("scores", [0.5, 1.5, -2.0, 3.0])
    classes = ask(tmp_path, {"row": [0, 1, 2, 3], "y": [10, 9, 10, 9]}, label="y")
    assert (classes.kind, classes.label_names) == ("labels", ("9", "10"))


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"row": [0, 4], "y": ["a", "b"]}, {"label": "y"}, r"1 of 2 rows .* not there \(4, for one\).*rows 0 to 3"),
        ({"row": [-1, 0], "y": ["a", "b"]}, {"label": "y"}, r"\(-1, for one\)"),
        ({"row": [0.0, 1.0], "y": ["a", "b"]}, {"label": "y"}, "pool rows are whole numbers"),
        ({"id": [0, 1], "y": ["a", "b"]}, {"label": "y"}, r"no column 'row' \(given as `row`\); it has id, y"),
        ({"row": [0, 1], "y": ["a", "b"]}, {"label": "z"}, r"no column 'z' \(given as `label`\)"),
        ({"row": [0, 1], "y": ["a", "b"]}, {}, "name the column with the predictions"),
        ({"row": [0, 1], "p": [0.1, 0.2]}, {"probabilities": ["p"]}, "name one column for each class"),
        ({"row": [0, 1], "y": ["a", "b"]}, {"label": "y", "row": None}, "name the column that says which input"),
        ({"text": ["p", "q"], "y": ["a", "b"]}, {"label": "y", "text": "text"}, "none of the 2 rows .* belongs"),
        ({"row": [0, 1], "p": [[0.5, 0.5], [1.0]]}, {"probabilities": ["p"]}, "no table of numbers"),
        ({"row": [0, 1], "t": ["one", "six"], "y": ["a", "b"]}, {"label": "y", "text": "t"}, "is it another pool"),
        ({"row": [0, 1], "y": ["a", "b"]}, {"label": "y", "pool": "abc"}, "predictions on pool abc, but this pool is"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, columns: dict, settings: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ask(tmp_path, columns, **settings)


def test_its_own_pool_is_accepted_and_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    columns = {"row": [0, 1, 2, 3], "y": ["a", "b", "a", "b"]}
    assert ask(tmp_path, columns, label="y", pool=TABLE.fingerprint).validate(4)
    config = PredictionsModel(kind="predictions", id="m", file="predictions.parquet", label="y")
    before = build_model(config, tmp_path).fingerprint
    assert build_model(config.model_copy(update={"id": "n"}), tmp_path).fingerprint == before
    ask(tmp_path, {**columns, "y": ["a", "b", "b", "b"]}, label="y")
    assert build_model(config, tmp_path).fingerprint != before


POOL = Pool(TABLE, ["a", "a", "b", "b"])
ROWS = {"row": [0, 1, 2, 3], "y": ["a", "b", "a", "b"]}


def test_scores_are_numbers_that_need_not_add_up_to_one(tmp_path: Path) -> None:
    several = ask(tmp_path, {"row": [0, 1, 2], "a": [0.9, 0.8, 0.1], "b": [0.9, 0.1, 0.2]}, scores=["a", "b"])
    assert (several.kind, several.values[0].tolist()) == ("scores", pytest.approx([0.9, 0.9]))
    whole = ask(tmp_path, {"row": [0, 1, 2], "years": [3, 70, 41]}, scores=["years"])
    assert (whole.kind, whole.values[:3].ravel().tolist()) == ("scores", [3, 70, 41])
    listed = ask(tmp_path, {"row": [0, 1], "v": [[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]}, scores=["v"])
    assert listed.values.shape[1] == 3
    plain = PredictionsModel(kind="predictions", id="m", file="x", probabilities=["p"])
    assert "scores" not in plain.identity()


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_rows_of_a_pool_say_of_which(tmp_path: Path, ending: str) -> None:
    named = {**ROWS, "pool": [POOL.id] * 4}
    assert ask(tmp_path, named, POOL.inputs, ending, label="y").values.argmax(axis=1).tolist() == [0, 1, 0, 1]
    assert ask(tmp_path, ROWS, POOL.inputs, ending, label="y", pool=POOL.id).answered is None
    assert ask(tmp_path, {**ROWS, "t": TABLE.texts}, POOL.inputs, ending, label="y", text="t").answered is None
    with pytest.raises(ModelError, match=f"nothing says of which pool.*Keep the column `pool`.*this pool is {POOL.id}"):
        ask(tmp_path, ROWS, POOL.inputs, ending, label="y")
    with pytest.raises(ModelError, match=f"predictions on pool abc, but this pool is {POOL.id}; predict on this pool"):
        ask(tmp_path, {**ROWS, "pool": ["abc"] * 4}, POOL.inputs, ending, label="y")


def test_rows_of_other_pools_in_a_file_are_left_out(tmp_path: Path) -> None:
    columns = {"row": [0, 1, 2, 99, 0], "y": ["a", "b", "a", "b", "b"], "pool": [POOL.id] * 3 + ["abc", "abc"]}
    outputs = ask(tmp_path, columns, POOL.inputs, label="y")
    assert outputs.values.argmax(axis=1)[:3].tolist() == [0, 1, 0]
    assert (outputs.details["rows_missing"], outputs.details["rows_unused"]) == (1, 2)


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"m: no file .*nowhere.csv"):
        build_model(PredictionsModel(kind="predictions", id="m", file="nowhere.csv", label="y"), tmp_path)
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(ModelError, match=r"bad.parquet cannot be read"):
        build_model(PredictionsModel(kind="predictions", id="m", file="bad.parquet", label="y"), tmp_path).outputs(
            TABLE
        )


QUESTIONS = TextTable(["who sat", "what sat", "a single text", "who ran"], ["the cat sat", "a mat", None, "no dog ran"])


def test_answer_spans_are_taken_from_start_and_end_with_their_probability(tmp_path: Path) -> None:
    columns = {"row": [3, 0, 1, 2], "s": [3, 4, -1, -1], "e": [6, 7, -1, -1], "p": [0.5, 0.9, 0.25, 1.0]}
    outputs = ask(tmp_path, columns, QUESTIONS, start="s", end="e", score="p")
    assert outputs.kind == "spans"
    assert outputs.values.tolist() == [[4, 7, pytest.approx(0.9)], [-1, -1, 0.25], [-1, -1, 0], [3, 6, 0.5]]
    assert outputs.answered_rows.tolist() == [0, 1, 3]
    assert outputs.details["rows_without_context"] == 1


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_answer_texts_are_found_in_their_context_and_those_that_are_not_are_counted(tmp_path: Path, ending) -> None:
    columns = {"q": ["who ran", "who sat", "what sat"], "c": ["no dog ran", "the cat sat", "a mat"],
               "a": ["dog", " ", "a rug"]}  # fmt: skip
    outputs = ask(tmp_path, columns, QUESTIONS, ending, text="q", text_pair="c", answer="a")
    assert outputs.values.tolist() == [[-1, -1, 1], [-1, -1, 0], [-1, -1, 0], [3, 6, 1]]
    assert outputs.answered_rows.tolist() == [0, 3]
    assert outputs.details["answers_not_found"] == 1


def test_null_spans_and_null_answers_are_not_answered(tmp_path: Path) -> None:
    spans = ask(tmp_path, {"row": [0, 3], "s": [4, None], "e": [7, None]}, QUESTIONS, start="s", end="e")
    texts = ask(tmp_path, {"row": [0, 3], "a": ["cat", None]}, QUESTIONS, answer="a")
    assert spans.answered_rows.tolist() == texts.answered_rows.tolist() == [0]


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (
            {"s": [3, 4], "e": [9, 7]},
            {"start": "s", "end": "e"},
            r"m: a span outside its text: row 1 has \[3, 9\), but",
        ),
        ({"s": [0, 0], "e": [1, 1], "row": [0, 2]}, {"start": "s", "end": "e"}, "row 2 .* that input has no context"),
        ({"s": [0, 0]}, {"start": "s"}, "`start` and `end` belong together; name the column of `end`"),
        ({"s": [0.5, 0], "e": [1, 1]}, {"start": "s", "end": "e"}, "column 's' is of type double; `start` needs whole"),
        ({"a": [1, 2]}, {"answer": "a"}, "column 'a' is of type int64; `answer` needs texts"),
        ({"a": ["x", "y"]}, {"answer": "a"}, "m: it answered none of 4 inputs"),
        ({"a": ["mat", "a"], "row": [1, 1]}, {"answer": "a"}, "predict pool row 1 differently"),
    ],
)
def test_spans_that_do_not_fit_are_refused(tmp_path: Path, columns: dict, settings: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ask(tmp_path, {"row": [1, 0], **columns}, QUESTIONS, **settings)
