import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fute.config import DatasetConfig
from fute.data.ingest import dataset_fingerprint, ingest
from fute.errors import DataError
from tests.fute.memory_rows import dataset_from_rows


def texts(n, what="row"):
    return [f"{what} number {i} of many" for i in range(n)]


def rows(labels, what="row"):
    return {"text": texts(len(labels), what), "label": labels}


def classes(train, **settings):
    return dataset_from_rows("d", "classification", {"train": rows(train)}, **settings)


def config(tmp_path, table, **settings):
    pq.write_table(table, tmp_path / "train.parquet")
    return DatasetConfig(id="d", data={"files": "train.parquet"}, **settings)


# ------------------------------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize(
    ("labels", "names", "ids"),
    [
        (["no", "yes"] * 8, ("no", "yes"), [0, 1] * 8),
        ([5, 1] * 8, ("1", "5"), [1, 0] * 8),
        ([-1, 1] * 8, ("-1", "1"), [0, 1] * 8),
        ([True, False] * 8, ("false", "true"), [1, 0] * 8),
        ([2.0, 0.0] * 8, ("0", "2"), [1, 0] * 8),
        ([10, 9] * 8, ("9", "10"), [1, 0] * 8),
    ],
)
def test_labels_of_any_type_become_class_ids(labels, names, ids):
    dataset = classes(labels)
    assert dataset.label_names == names
    assert dataset.train.targets.tolist() == ids
    assert dataset.train.targets.dtype == np.int64


def test_given_names_are_what_numbers_index_and_what_text_is_looked_up_in():
    assert classes([1, 0] * 8, label_names=["bad", "good", "mixed"]).label_names == ("bad", "good", "mixed")
    assert classes(["good", "bad"] * 8, label_names=["good", "bad"]).train.targets.tolist() == [0, 1] * 8
    with pytest.raises(
        DataError, match=r"16 rows with a label that is none of good, bad \(first: 'Good'; did you mean 'good'"
    ):
        classes(["Good"] * 16 + ["bad"] * 16, label_names=["good", "bad"])


def test_names_come_from_the_features_that_datasets_writes_into_parquet(tmp_path):
    features = {"info": {"features": {"label": {"names": ["ham", "spam"], "_type": "ClassLabel"}}}}
    table = pa.table(rows([1, 0] * 8)).replace_schema_metadata({"huggingface": json.dumps(features)})
    assert ingest(config(tmp_path, table), tmp_path, 0).label_names == ("ham", "spam")


def test_names_of_a_dictionary_column_keep_their_order(tmp_path):
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2] * 6, pa.int8()), ["low", "middle", "high"])
    dataset = ingest(config(tmp_path, pa.table({"text": texts(18), "label": column})), tmp_path, 0)
    assert dataset.label_names == ("low", "middle", "high")
    assert dataset.train.targets.tolist() == [0, 1, 2] * 6


def test_a_label_that_occurs_in_the_test_split_only_is_a_class_of_all():
    dataset = dataset_from_rows(
        "d", "classification", {"train": rows(["a", "c"] * 8), "test": rows(["b", "c"], "other")}
    )
    assert dataset.label_names == ("a", "b", "c")
    assert dataset.splits["test"].targets.tolist() == [1, 2]
    assert dataset.report["splits"]["train"]["classes"] == {"a": 8, "b": 0, "c": 8}


@pytest.mark.parametrize("held_back", [[-1] * 4, [None] * 4])
def test_an_unlabelled_test_split_is_dropped_and_reported(held_back):
    dataset = dataset_from_rows(
        "d", "classification", {"train": rows([0, 1] * 8), "test": {"text": texts(4), "label": held_back}}
    )
    assert list(dataset.splits) == ["train"]
    assert "4" in dataset.report["dropped_splits"]["test"]


def test_single_rows_marked_unlabelled_are_refused_or_left_out():
    labels = [0, 1] * 8 + [-1, -1]
    with pytest.raises(DataError, match=r"2 rows with the label -1, which stands for no label \(rows 16, 17\)"):
        classes(labels, label_names=["a", "b"])
    dataset = classes(labels, label_names=["a", "b"], skip_bad_rows=True)
    assert dataset.report["splits"]["train"]["left_out"] == {"label": 2}
    assert len(dataset.train) == 16


def test_labels_that_are_no_classes_are_refused():
    with pytest.raises(DataError, match=r"numbers with fractions \(row 1: 0\.5\).*task: regression"):
        classes([0.0, 0.5] * 8)
    with pytest.raises(DataError, match="d cannot be used as it is"):
        classes(np.array([0, 2**64 - 1] * 8, dtype=np.uint64))
    with pytest.raises(DataError, match="d cannot be used as it is"):
        classes([0.0, math.inf] * 8)
    with pytest.raises(DataError, match="holds list"):
        classes([[0]] * 16)
    with pytest.raises(DataError, match="numbers in one split and text in another"):
        dataset_from_rows("d", "classification", {"train": rows([0, 1] * 8), "test": rows(["x", "y"])})


# ----------------------------------------------------------------------------------------------------------- refusals


def test_everything_that_is_wrong_stands_in_one_message():
    bad = {"text": [None, "  ", "fine", "fine too", "\n"] * 2, "label": [0, 1, 7, None, 0] * 2}
    with pytest.raises(DataError) as caught:
        dataset_from_rows("d", "classification", {"train": bad}, label_names=["x", "y"])
    message = str(caught.value)
    for line in (
        "train: 2 rows with no text in column 'text' (rows 0, 5)",
        "train: 4 rows with empty text in column 'text' (rows 1, 4, 6, 9)",
        "train: 2 rows with a label out of range 0..1 (first: 7) (rows 2, 7)",
        "train: 2 rows with no label in column 'label' (rows 3, 8)",
        "train: none of its 10 rows has a text and a label that can be used",
        "skip_bad_rows",
    ):
        assert line in message


def test_bad_rows_can_be_left_out_and_are_counted_once_each():
    good = rows([0, 1] * 10)
    train = {"text": [*good["text"], None, " ", None, good["text"][3]], "label": [*good["label"], 0, 1, None, 1]}
    dataset = dataset_from_rows("d", "classification", {"train": train}, skip_bad_rows=True)
    assert list(dataset.train.inputs.texts) == good["text"]
    entry = dataset.report["splits"]["train"]
    assert entry["left_out"] == {"null": 2, "empty": 1, "duplicate": 1}
    assert entry["seen"] == 24
    assert entry["kept"] == 20


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["a"] * 20, "one class only, 'a'"),
        ([0, 1] * 3, "6 usable rows, but min_rows is 16"),
        ([None] * 20, "none of its 20 rows has a text and a label"),
        ([], "train: it has no rows"),
        ([0.5, 1.5] * 10, "name another column, or, in a study, set task: regression"),
    ],
)
def test_a_split_from_which_nothing_can_be_learned_is_refused(labels, says):
    with pytest.raises(DataError, match=says):
        classes(labels)


def test_a_pair_needs_both_texts():
    train = {"a": texts(20), "b": [None, " ", *texts(18, "second")], "label": [0, 1] * 10}
    with pytest.raises(DataError, match=r"(?s)1 row with no text in column 'b' \(row 0\).*1 row with empty text"):
        dataset_from_rows("d", "classification", {"train": train}, text="a", text_pair="b")


def test_splits_are_called_by_their_names():
    with pytest.raises(DataError, match=r"(?s)'dev' is no split.*there is no split 'train'"):
        dataset_from_rows("d", "classification", {"dev": rows([0, 1] * 8)})


def test_an_empty_split_is_dropped_and_reported():
    dataset = dataset_from_rows("d", "classification", {"test": rows([]), "train": rows([0, 1] * 8)})
    assert list(dataset.splits) == ["train"]
    assert dataset.report["dropped_splits"] == {"test": "it has no rows"}


# --------------------------------------------------------------------------------------------------- other task types


def test_regression_targets_are_finite_floats():
    dataset = dataset_from_rows("d", "regression", {"train": rows([i / 4 for i in range(20)])})
    assert dataset.train.targets.dtype == np.float32
    assert dataset.train.targets[3] == 0.75
    assert dataset.label_names is None
    with pytest.raises(DataError, match=r"1 row whose label in column 'label' is not a finite number \(row 0\)"):
        dataset_from_rows("d", "regression", {"train": rows([math.inf, *range(19)])})
    with pytest.raises(DataError, match="1 row with no label"):
        dataset_from_rows("d", "regression", {"train": rows([math.nan, *range(19)])})
    with pytest.raises(DataError, match="every label is 2"):
        dataset_from_rows("d", "regression", {"train": rows([2.0] * 20)})
    with pytest.raises(DataError, match="a regression needs numbers"):
        dataset_from_rows("d", "regression", {"train": rows(["high"] * 20)})


CONTEXT = "Émile planted nineteen trees behind the mill, and a twentieth by the river."


def questions(answers, **settings):
    train = {"question": texts(len(answers)), "context": [CONTEXT] * len(answers), "answers": answers}
    return dataset_from_rows(
        "d", "span_qa", {"train": train}, text="question", text_pair="context", label="answers", **settings
    )


def answer(text, start=None):
    return {"text": [text], "answer_start": [CONTEXT.index(text) if start is None else start]}


def test_span_targets_are_character_offsets_of_the_first_answer():
    nothing = {"text": [], "answer_start": []}
    two = {"text": ["the mill", "behind the mill"], "answer_start": [CONTEXT.index("the mill"), 28]}
    dataset = questions([answer("Émile"), answer("nineteen trees"), two, nothing] * 5)
    spans = [CONTEXT[start:end] for start, end in dataset.train.targets[:3]]
    assert spans == ["Émile", "nineteen trees", "the mill"]
    assert dataset.train.targets[3].tolist() == [-1, -1]
    assert dataset.train.inputs.pairs[0] == CONTEXT


def test_answers_may_be_a_list_of_records():
    dataset = questions([[{"text": "Émile", "answer_start": 0}], []] * 10)
    assert dataset.train.targets[:2].tolist() == [[0, 5], [-1, -1]]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            answer("the mill", 3),
            r"whose answer is not at its offset \(first: 'the mill' at 3, where the context has 'le plan",
        ),
        (answer("river.", 9000), "not at its offset"),
        (answer("Émile", -2), "not at its offset"),
        ({"text": ["a", "b"], "answer_start": [0]}, "not one offset for each answer"),
        ({"text": [""], "answer_start": [0]}, "empty answer"),
        (None, "with null in column 'answers'"),
    ],
)
def test_answers_that_do_not_stand_in_the_context_are_refused(wrong, says):
    with pytest.raises(DataError, match=says):
        questions([answer("Émile")] * 20 + [wrong])
    assert len(questions([answer("Émile")] * 20 + [wrong], skip_bad_rows=True).train) == 20


def test_span_qa_needs_a_context_answers_and_an_answerable_question():
    with pytest.raises(DataError, match="needs text_pair"):
        dataset_from_rows("d", "span_qa", {"train": rows([0, 1] * 8)})
    with pytest.raises(DataError, match="no question has an answer"):
        questions([{"text": [], "answer_start": []}] * 20)
    with pytest.raises(DataError, match="span QA needs answers as in SQuAD"):
        questions(["Émile"] * 20)


# ----------------------------------------------------------------------------------------------- sampling and identity


def test_a_capped_sample_is_stratified_ordered_and_its_own_for_every_dataset_and_seed():
    labels = ["common"] * 900 + ["rare"] * 99 + ["single"]
    dataset = classes(labels, max_rows=50, seed=1)
    counts = dataset.report["splits"]["train"]["classes"]
    assert sum(counts.values()) == 50
    assert counts["single"] == 1
    assert abs(counts["common"] - 45) <= 1
    numbers = [int(t.split()[2]) for t in dataset.train.inputs.texts]
    assert numbers == sorted(numbers)
    again = classes(labels, max_rows=50, seed=1)
    assert again.train.inputs.fingerprint == dataset.train.inputs.fingerprint
    assert again.fingerprint == dataset.fingerprint
    other_seed = classes(labels, max_rows=50, seed=2)
    other_id = dataset_from_rows("e", "classification", {"train": rows(labels)}, max_rows=50, seed=1)
    for other in (other_seed, other_id):
        assert other.train.inputs.fingerprint != dataset.train.inputs.fingerprint
        assert other.fingerprint != dataset.fingerprint


def test_evaluation_splits_have_a_cap_of_their_own():
    both = {"train": rows([0, 1] * 50), "test": rows([0, 1] * 50, "test")}
    dataset = dataset_from_rows("d", "classification", both, max_rows=40, max_eval_rows=10)
    assert (len(dataset.train), len(dataset.splits["test"])) == (40, 10)
    assert np.bincount(dataset.splits["test"].targets).tolist() == [5, 5]


def test_the_fingerprint_is_known_before_reading_and_follows_what_changes_rows(tmp_path):
    base = config(tmp_path, pa.table(rows([0, 1] * 20)))
    known = dataset_fingerprint(base, tmp_path, 0)
    assert ingest(base, tmp_path, 0).fingerprint == known
    for same in ({"family": "sentiment"}, {"min_rows": 3}):
        assert dataset_fingerprint(base.model_copy(update=same), tmp_path, 0) == known
    for other in ({"max_rows": 9}, {"label_names": ["a", "b"]}, {"id": "e"}, {"skip_bad_rows": True}):
        assert dataset_fingerprint(base.model_copy(update=other), tmp_path, 0) != known
    assert dataset_fingerprint(base, tmp_path, 1) != known
    config(tmp_path, pa.table(rows([1, 0] * 20)))
    assert dataset_fingerprint(base, tmp_path, 0) != known


def test_duplicates_conflicts_and_texts_shared_with_training_are_counted():
    train = {
        "text": [*texts(20), "Twice said.", "Twice said.", "twice SAID", "Other!"],
        "label": [0, 1] * 10 + [0, 1, 0, 1],
    }
    test = {"text": ["Twice said.", "other", "new one", texts(1)[0]], "label": [0, 1, 0, 1]}
    dataset = dataset_from_rows("d", "classification", {"train": train, "test": test})
    entry = dataset.report["splits"]["train"]
    assert (entry["duplicates"], entry["duplicates_normalised"], entry["conflicting_labels"]) == (1, 2, 2)
    assert dataset.report["overlap"] == {"test": {"exact": 2, "normalised": 3}}
    assert len(dataset.train) == 24, "duplicates are counted, not taken out, unless bad rows are to be skipped"


def test_pairs_are_duplicates_only_as_pairs():
    train = {"a": ["same"] * 20, "b": texts(20), "label": [0, 1] * 10}
    dataset = dataset_from_rows("d", "classification", {"train": train}, text="a", text_pair="b")
    assert dataset.report["splits"]["train"]["duplicates"] == 0


def test_a_datasets_dict_in_memory_brings_its_label_names():
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["n", "p"])})
    source = datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows([0, 1] * 8), features=features)})
    dataset = dataset_from_rows("d", "classification", source)
    assert dataset.label_names == ("n", "p")
