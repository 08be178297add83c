"""scikit-learn pipelines and Python callables."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fute.config import PythonModel, SklearnModel
from fute.errors import ModelError
from fute.models.answers import outputs_from_labels
from fute.models.build import build_model
from fute.models.python_callable import PythonCallable
from fute.types import TextTable

TABLE = TextTable(["red fish", "blue lake", "old red tree", "blue sky"])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    shutil.copy(Path(__file__).with_name("zoo_entry_points.py"), folder / "zoo.py")
    return folder


def sklearn_outputs(function: str, study: Path, table: TextTable = TABLE, **kwargs):
    config = SklearnModel(kind="sklearn", id="m", entry_point=f"zoo:{function}", kwargs=kwargs)
    return build_model(config, study).outputs(table)


def python_outputs(function: str, study: Path, table: TextTable = TABLE, **settings):
    return build_model(PythonModel(kind="python", id="m", entry_point=f"zoo:{function}", **settings), study).outputs(
        table
    )


def test_pipeline_with_predict_proba_gives_probabilities_named_by_its_classes(study: Path) -> None:
    outputs = sklearn_outputs("bayes", study)
    assert outputs.kind == "probabilities"
    assert outputs.label_names == ("blue", "red")
    assert outputs.validate(4).values.argmax(axis=1).tolist() == [1, 0, 1, 0]


def test_kwargs_reach_the_function_that_makes_the_pipeline(study: Path) -> None:
    sharp, smooth = (sklearn_outputs("bayes", study, alpha=alpha).values for alpha in (0.01, 100.0))
    assert np.ptp(sharp) > 0.9
    assert np.ptp(smooth) < 0.1


def test_pipeline_without_probabilities_gives_decision_values_as_scores(study: Path) -> None:
    two, three = sklearn_outputs("svm", study), sklearn_outputs("svm", study, classes=3)
    assert (two.kind, two.values.shape, two.label_names) == ("scores", (4, 1), None)
    assert (three.kind, three.values.shape, three.label_names) == ("scores", (4, 3), ("blue", "green", "red"))


def test_pipeline_with_predict_alone_gives_labels_and_a_regressor_gives_scores(study: Path) -> None:
    labels, numbers = sklearn_outputs("nearest", study), sklearn_outputs("ridge", study)
    assert (labels.kind, labels.label_names) == ("labels", ("blue", "red"))
    assert labels.values.sum(axis=1).tolist() == [1, 1, 1, 1]
    assert (numbers.kind, numbers.values.shape) == ("scores", (4, 1))


def test_pairs_reach_a_pipeline_as_one_text(study: Path) -> None:
    paired = sklearn_outputs("bayes", study, TextTable(["fish", "fish"], ["red", None]))
    joined = sklearn_outputs("bayes", study, TextTable(["fish [SEP] red", "fish"]))
    np.testing.assert_array_equal(paired.values, joined.values)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("unfitted", "m: zoo:unfitted returned a pipeline that is not fitted; fit it"),
        ("not_a_pipeline", "m: zoo:not_a_pipeline returned dict, which has no predict"),
        ("broken", "m: its function raised FileNotFoundError: weights.bin"),
    ],
)
def test_unusable_pipelines_are_refused_by_name(study: Path, function: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        sklearn_outputs(function, study)


def test_callable_gives_probabilities_and_takes_its_kwargs(study: Path) -> None:
    outputs = python_outputs("redness", study, kwargs={"strength": 3.0}, label_names=["other", "red"])
    np.testing.assert_allclose(outputs.validate(4).values[:, 1], [0.75, 0, 0.75, 0])
    assert outputs.label_names == ("other", "red")


def test_labels_become_one_hot_rows_in_sorted_order_and_none_means_no_answer(study: Path) -> None:
    outputs = python_outputs("labels", study, outputs="labels")
    assert outputs.label_names == ("blue", "red")
    assert outputs.values.tolist() == [[0, 1], [0, 0], [0, 1], [1, 0]]
    assert outputs.answered is not None
    assert outputs.answered.tolist() == [True, False, True, True]


def test_given_label_names_set_the_columns(study: Path) -> None:
    outputs = python_outputs("labels", study, outputs="labels", label_names=["red", "green", "blue"])
    assert outputs.values.argmax(axis=1).tolist() == [0, 0, 0, 2]
    assert outputs.values.shape == (4, 3)
    with pytest.raises(ModelError, match=r"m: label 'red' of row 0 is none of its label names: green, blue"):
        python_outputs("labels", study, outputs="labels", label_names=["green", "blue"])


def test_whole_numbers_are_sorted_by_size_or_taken_as_class_ids(study: Path) -> None:
    table = TextTable(["x" * 10, "x" * 2, "x"])
    sorted_by_size = python_outputs("lengths", study, table, outputs="labels")
    assert sorted_by_size.label_names == ("1", "2", "10")
    ids = python_outputs("lengths", study, TextTable(["x", "xx"]), outputs="labels", label_names=["no", "yes", "maybe"])
    assert ids.values.argmax(axis=1).tolist() == [1, 2]
    with pytest.raises(ModelError, match="m: class 10, but its 3 label names are no, yes, maybe"):
        python_outputs("lengths", study, table, outputs="labels", label_names=["no", "yes", "maybe"])


@pytest.mark.parametrize(
    ("answers", "names", "expected"),
    [
        ([True, False], ["true", "false"], [0, 1]),
        ([True, False], ["False", "True"], [1, 0]),
        ([True, False], ["no", "yes"], [1, 0]),
        ([1, 0], ["1", "0"], [0, 1]),
        ([2, 1], ["1", "2", "3"], [1, 0]),
    ],
)
def test_labels_that_are_names_are_called_by_them(answers, names, expected) -> None:
    assert outputs_from_labels("m", answers, 2, names).values.argmax(axis=1).tolist() == expected


@pytest.mark.parametrize(("answers", "names"), [([True, False], ["1", "0"]), ([0, 1], ["true", "false"]),
                                                ([0, 1, 2], ["1", "2", "3"])])  # fmt: skip
def test_numbers_that_mean_two_classes_are_refused(answers, names) -> None:
    with pytest.raises(ModelError, match="m: labels are numbers, and some of label_names"):
        outputs_from_labels("m", answers, len(answers), names)


def test_labels_that_differ_in_blanks_are_refused_and_nearly_equal_ones_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(
        ModelError, match="m: its labels ' bad', 'bad' would be different classes, but differ in blanks"
    ):
        outputs_from_labels("m", ["bad", " bad", "good"], 3)
    assert outputs_from_labels("m", ["Bad.", "bad", "good"], 3).label_names == ("Bad.", "bad", "good")
    assert caplog.messages == [
        "m: its labels 'Bad.', 'bad' differ in capitals, a full stop, or how accents are encoded, and count as "
        "different classes"
    ]
    caplog.clear()
    outputs_from_labels("m", ["bad", " bad", "Bad"], 3, ("bad", " bad", "Bad"))
    outputs_from_labels("m", [1, 2, 10], 3)
    assert not caplog.messages


def test_scores_may_be_one_number_for_each_input_and_embeddings_may_be_any_width(study: Path) -> None:
    assert python_outputs("lengths", study, outputs="scores").values.tolist() == [[8], [9], [12], [8]]
    outputs = python_outputs("pair_lengths", study, TextTable(["a", "b"], ["xyz", None]), outputs="embeddings")
    assert outputs.kind == "embeddings"
    assert outputs.values.tolist() == [[1, 3], [1, 0]]


def test_rows_of_none_count_as_not_answered(study: Path) -> None:
    outputs = python_outputs("some_answers", study)
    assert outputs.answered_rows.tolist() == [0, 2, 3]
    assert outputs.values[1].tolist() == [0, 0]


def test_callable_gives_answer_spans_for_inputs_with_a_second_text(study: Path) -> None:
    table = TextTable(["who", "what", "where"], ["the cat", None, "a mat"])
    outputs = python_outputs("spans", study, table, outputs="spans")
    np.testing.assert_allclose(outputs.values[0], [-1, -1, 0.6, 0, 4, 0.3])
    assert outputs.values[1].tolist() == [-1, -1, 0, -1, -1, 0]
    assert outputs.answered_rows.tolist() == [0, 2]
    with pytest.raises(ModelError, match=r"m: a span outside its text: row 2 has \[0, 6\), .* has 5 characters"):
        python_outputs("spans", study, table, outputs="spans", kwargs={"end": 6})
    with pytest.raises(ModelError, match=r"m: spans have shape \(3, 2\); give start, end and probability"):
        python_outputs("pairs_of_numbers", study, table, outputs="spans")


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        ("one_too_few", {}, "m: it returned 3 probabilities for 4 inputs; give one for each"),
        ("ragged", {}, "m: its probabilities are no table of numbers"),
        ("flat", {}, r"m: its probabilities have shape \(4,\) for 4 inputs; .* a column for each class"),
        ("a_string", {"outputs": "labels"}, "m: it returned str instead of labels"),
        ("explodes", {}, "m: its function raised ValueError: out of cheese"),
        ("nothing", {}, "m: it answered none of 4 inputs"),
        ("nothing", {"outputs": "labels"}, "m: it answered none of 4 inputs"),
        ("labels", {}, "m: its probabilities are no table of numbers"),
        ("redness", {"label_names": ["a", "b", "c"]}, r"m: 3 label names \(a, b, c\) for 2 columns"),
        ("redness", {"outputs": "labels"}, "m: label .* of row 0 is of type ndarray"),
        ("redness", {"kwargs": {"strength": "x", "typo": 1}}, r"m: redness\(.*cannot be called with .*'typo'"),
    ],
)
def test_wrong_answers_are_refused_with_what_and_how_many(
    study: Path, function: str, settings: dict, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        python_outputs(function, study, **settings)
    if "raised" in message:
        assert caught.value.__cause__ is not None


def test_fingerprint_changes_with_source_kwargs_and_revision_but_not_with_id_or_task(tmp_path: Path) -> None:
    file = tmp_path / "own.py"

    def identity(source: str = "def f(texts, pairs): return texts", **settings) -> str:
        file.write_text(source)
        config = PythonModel(**{"kind": "python", "id": "m", "entry_point": "own:f", **settings})
        return PythonCallable(config, tmp_path).fingerprint

    first = identity()
    assert identity(id="other", task="sentiment") == first
    others = [
        identity("def f(texts, pairs): return pairs"),
        identity(kwargs={"a": 1}),
        identity(revision="2"),
        identity(outputs="scores"),
    ]
    assert len({first, *others}) == 5
