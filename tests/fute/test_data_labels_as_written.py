"""A label is what its author wrote, whatever the file's format."""

import csv
import datetime
import decimal
import json
import math
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fute.config import DatasetConfig, FileSource, PredictionsModel, PythonSource
from fute.data.ingest import dataset_fingerprint, ingest
from fute.data.read import read_tables
from fute.errors import DataError, ModelError
from fute.models.build import build_model
from fute.types import TextTable
from tests.fute.memory_rows import dataset_from_rows

NASTY = [
    "01", "1", "1E2", "100", "+7", "7", "-0", "0", "1.0", "2.50", ".5", "1_000", "0x10", "09:15", "12:30",
    "2020-01-01", "2020-01-01T10:00:00Z", "True", "true", "FALSE", "yes", "no", "NA", "nan", "NaN", "NULL",
    "null", "None", "n/a", "inf", "-1", "- 1", "1,5", "a,b", 'say "x"', "two\nlines", "\xe9t\xe9",
    "e\u0301te\u0301", "\uff11", "#N/A", "a ", " a", "18446744073709551616", "9007199254740993", "\u2705",
]  # fmt: skip


def write(path, rows, columns=("text", "label")):
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    else:
        pq.write_table(pa.table(dict(zip(columns, zip(*rows, strict=True), strict=True))), path)
    return path.name


def rows(labels, n=40):
    return [(f"text number {i}", labels[i % len(labels)]) for i in range(n)]


def read(folder, files, **settings):
    return ingest(DatasetConfig(id="d", data={"files": files}, min_rows=2, **settings), folder, 0)


def named(dataset, split="train"):
    part = dataset.splits[split]
    return {t: dataset.label_names[k] for t, k in zip(part.inputs.texts, part.targets, strict=True)}


# ----------------------------------------------------------------------------------------------- the formats agree


@pytest.mark.parametrize("seed", range(20))
def test_any_labels_are_the_same_classes_from_every_format(tmp_path, seed):
    draw = random.Random(seed)
    labels = [*draw.sample(NASTY, draw.randint(2, 8)), "a word"]
    table = rows(labels)
    for ending in ("csv", "jsonl", "parquet"):
        dataset = read(tmp_path, write(tmp_path / f"r{seed}.{ending}", table))
        assert dataset.label_names == tuple(sorted(labels))
        assert named(dataset) == dict(table)


@pytest.mark.parametrize("seed", range(20))
def test_cells_that_all_look_like_numbers_are_told_apart_or_refused(tmp_path, seed):
    draw = random.Random(seed)
    numbers = ["01", "1", "1E2", "100", "+7", "7", "-0", "0", "1.0", "1.00", "2.50", "2.5", ".5", "-1", "1e400", "0.10"]
    table = rows(draw.sample(numbers, draw.randint(2, 4)))
    name = write(tmp_path / "r.csv", table)
    if any(math.isfinite(float(label)) and not float(label).is_integer() for _, label in table):
        with pytest.raises(DataError, match="numbers with fractions"):
            read(tmp_path, name)
    else:
        assert named(read(tmp_path, name)) == dict(table)


@pytest.mark.parametrize("labels", [["3", "1", "10"], ["-5", "7"], ["7", "-1"], ["0"] * 3 + ["1"]])
def test_whole_numbers_are_the_same_classes_from_every_format(tmp_path, labels):
    table = [(text, int(label)) for text, label in rows(labels)]
    found = [read(tmp_path, write(tmp_path / f"r.{e}", table)) for e in ("csv", "jsonl", "parquet")]
    assert all(named(d) == {text: str(label) for text, label in table} for d in found)
    assert {d.label_names for d in found} == {tuple(map(str, sorted({label for _, label in table})))}


@pytest.mark.parametrize("seed", range(10))
def test_any_predicted_labels_are_the_same_classes_from_every_format(tmp_path, seed):
    draw = random.Random(seed)
    labels = [*draw.sample(NASTY, draw.randint(2, 8)), "a word"]
    table = rows(labels)
    for ending in ("csv", "jsonl", "parquet"):
        write(tmp_path / f"r.{ending}", table)
        config = PredictionsModel(kind="predictions", id="m", file=f"r.{ending}", row=None, text="text", label="label")
        outputs = build_model(config, tmp_path).outputs(TextTable([text for text, _ in table]))
        said = [outputs.label_names[i] for i in outputs.values.argmax(axis=1)]
        assert outputs.answered is None
        assert said == [label for _, label in table]


# ------------------------------------------------------------------------------------------------------ CSV cells


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["01", "1"], ("01", "1")),
        (["1", "1.0"], ("1", "1.0")),
        (["100", "1E2"], ("100", "1E2")),
        (["1.0", "2.0", "10.0"], ("1", "2", "10")),
        (["1", "NA"], ("1", "NA")),
        (["True", "False"], ("False", "True")),
        ([" 1", "2 "], ("1", "2")),
        (["18446744073709551616", "18446744073709551617"], ("18446744073709551616", "18446744073709551617")),
    ],
)
def test_cells_are_numbers_only_where_nothing_is_lost(tmp_path, labels, names):
    assert read(tmp_path, write(tmp_path / "r.csv", rows(labels))).label_names == names


def test_blank_cells_are_no_label_and_whole_numbers_with_gaps_are_classes(tmp_path):
    name = write(tmp_path / "r.csv", rows(["1.0", "", "2.0", "  "]))
    with pytest.raises(DataError, match="20 rows with no label"):
        read(tmp_path, name)
    dataset = read(tmp_path, name, skip_bad_rows=True)
    assert (dataset.label_names, len(dataset.train)) == (("1", "2"), 20)


def test_cells_with_fractions_are_a_regression_and_no_classes(tmp_path):
    name = write(tmp_path / "r.csv", rows(["0.5", "1", "2.25"]))
    with pytest.raises(DataError, match=r"numbers with fractions \(row 0: 0\.5\).*task: regression"):
        read(tmp_path, name)
    assert read(tmp_path, name, task="regression").train.targets[:3].tolist() == [0.5, 1, 2.25]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_numbers_written_as_text_are_numbers_where_a_regression_is_asked_for(tmp_path, ending):
    name = write(tmp_path / f"r.{ending}", rows(["01", "1E2", " 2.5 "]))
    assert read(tmp_path, name, task="regression").train.targets[:3].tolist() == [1, 100, 2.5]
    name = write(tmp_path / f"r.{ending}", rows(["0.5", "high"]))
    with pytest.raises(DataError, match=r"text that is no number \(row 1: 'high'\); a regression needs numbers"):
        read(tmp_path, name, task="regression")
    name = write(tmp_path / f"r.{ending}", rows(["0.5", "", "NA", "1.5"]))
    assert len(read(tmp_path, name, task="regression", skip_bad_rows=True).train) == 20


def test_the_files_of_a_dataset_are_read_alike(tmp_path):
    write(tmp_path / "a.csv", rows(["1", "2"]))
    write(tmp_path / "b.csv", rows(["1", "02"]))
    assert read(tmp_path, {"train": "[ab].csv"}).label_names == ("02", "1", "2")
    assert read(tmp_path, {"train": "a.csv", "test": "b.csv"}).label_names == ("02", "1", "2")
    write(tmp_path / "c.csv", rows(["1.0", "2.0", ""]))
    assert read(tmp_path, {"train": "[ac].csv"}, skip_bad_rows=True).label_names == ("1", "2")
    write(tmp_path / "d.parquet", [(text, int(label)) for text, label in rows(["1", "2"])])
    with pytest.raises(DataError, match="numbers in one split and text in another"):
        read(tmp_path, {"train": "d.parquet", "test": "b.csv"})


def test_a_long_quoted_cell_a_bom_and_a_second_column_of_one_name(tmp_path):
    text = "x\n" * 1_000_000
    content = f'text,label\n"{text}",a\n' + "".join(f"t{i},{'ab'[i % 2]}\n" for i in range(20))
    (tmp_path / "r.csv").write_text("\ufeff" + content)
    assert read(tmp_path, "r.csv").train.inputs.texts[0] == text
    (tmp_path / "r.csv").write_text("text,label,label\nx,a,b\n")
    with pytest.raises(DataError, match="more than one column 'label'"):
        read(tmp_path, "r.csv")


# --------------------------------------------------------------------------------------------------- typed labels


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (pa.array([datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)] * 8), ("2020-01-01", "2021-01-01")),
        (pa.array([decimal.Decimal("1.00"), decimal.Decimal("10.00")] * 8), ("1", "10")),
        (pa.array([2**60, 2**60 + 1] * 8), (str(2**60), str(2**60 + 1))),
        (pa.array([1.0, math.nan, 2.0, None] * 4), ("1", "2")),
        (pa.array(["01", "1"] * 8).dictionary_encode(), ("01", "1")),
        (pa.array([1.0, 0.0] * 8).dictionary_encode(), ("0", "1")),
        (pa.array([True, False] * 8).dictionary_encode(), ("false", "true")),
        (pa.array(["a", " ", "b", ""] * 4, pa.string_view()), ("a", "b")),
    ],
)  # fmt: skip
def test_typed_labels_keep_their_type(tmp_path, values, names):
    table = pa.table({"text": [f"text {i}" for i in range(16)], "label": values})
    pq.write_table(table, tmp_path / "r.parquet")
    assert read(tmp_path, "r.parquet", skip_bad_rows=True).label_names == names
    write(tmp_path / "p.parquet", [(i, 0) for i in range(16)], ("row", "label"))
    pq.write_table(table.append_column("row", pa.array(range(16))), tmp_path / "p.parquet")
    config = PredictionsModel(kind="predictions", id="m", file="p.parquet", label="label")
    assert build_model(config, tmp_path).outputs(TextTable(table["text"].to_pylist())).label_names == names


def test_numbers_that_a_float_cannot_tell_apart_are_refused(tmp_path):
    for number, says in ((float(2**53), "cannot all be told apart"), (math.inf, "holds an infinite number")):
        with pytest.raises(DataError, match=says):
            read(tmp_path, write(tmp_path / "r.parquet", rows([number, 1.0])))


@pytest.mark.parametrize("labels", [[1, "1"], ["1", 1], [True, 1], [{"a": 1}, "x"], [2**70, 1]])
def test_a_jsonl_column_of_several_kinds_is_refused(tmp_path, labels):
    with pytest.raises(DataError, match="column 'label' cannot be read"):
        read(tmp_path, write(tmp_path / "r.jsonl", rows(labels)))


def test_a_name_that_stands_twice_in_a_jsonl_object_is_refused(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"text": "a", "label": "x", "label": "y"}\n')
    with pytest.raises(DataError, match="line 1: a name stands twice"):
        read(tmp_path, "r.jsonl")


# ---------------------------------------------------------------------------------------------------- label_names


@pytest.mark.parametrize(
    ("labels", "names", "ending"),
    [
        (["True", "False"], ["True", "False"], "csv"),
        (["true", "false"], ["true", "false"], "csv"),
        ([True, False], ["True", "False"], "jsonl"),
        ([True, False], ["true", "unknown", "false"], "parquet"),
        ([1, 2, 3, 4, 5], ["1", "2", "3", "4", "5"], "parquet"),
        (["1", "2", "3"], ["1", "2", "3"], "csv"),
        (["2.0", "1.0"], ["1.0", "2.0"], "csv"),
        ([-1, 0, 1], ["-1", "0", "1"], "jsonl"),
        (["09:15", "12:30"], ["12:30", "09:15"], "csv"),
        (["1", "0"], ["1", "0"], "jsonl"),
    ],
)
def test_a_label_that_is_a_name_is_the_class_of_that_name(tmp_path, labels, names, ending):
    dataset = read(tmp_path, write(tmp_path / f"r.{ending}", rows(labels)), label_names=names)

    def plain(label):
        return str(label).casefold().removesuffix(".0")

    assert dataset.label_names == tuple(names)
    assert {t: plain(n) for t, n in named(dataset).items()} == {t: plain(label) for t, label in rows(labels)}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1, 0], ["1", "0"]),
        ([0, 1, 2], ["1", "2", "3"]),
        ([0, 1], ["True", "False"]),
        ([True, False], ["1", "0"]),
        ([True, False], ["true", "other"]),
        ([0, 1], ["-1", "0", "1"]),
        ([1, 2], ["1.0", "2.0", "3.0"]),
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_numbers_that_mean_two_classes_are_refused(tmp_path, labels, names, ending):
    with pytest.raises(DataError, match=r"by its place in them and the class .* by its name; write the labels as text"):
        read(tmp_path, write(tmp_path / f"r.{ending}", rows(labels)), label_names=names, skip_bad_rows=True)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1], ["no", "yes"]),
        ([False, True], ["no", "yes"]),
        ([0, 1, 2], ["0", "1", "more"]),
        ([0, 1], ["1990", "2000"]),
        ([0, 1, 2], ["pants-fire", "false", "true"]),
    ],
)
def test_other_names_are_those_of_the_classes_0_1_and_so_on(tmp_path, labels, names):
    dataset = read(tmp_path, write(tmp_path / "r.jsonl", rows(labels)), label_names=names)
    assert dataset.train.targets[: len(labels)].tolist() == [int(label) for label in labels]


# ------------------------------------------------------------------------------------------------ declared names


def declared(path, names, labels, declares=True):
    numbers = [None if label is None else names.index(label) for label in labels]
    texts = [f"{path.stem} {i} {label}" for i, label in enumerate(labels)]
    table = pa.table({"text": texts, "label": pa.array(numbers, pa.int64())})
    feature = {"label": {"names": names, "_type": "ClassLabel"}}
    if declares:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    pq.write_table(table, path)
    return path.name


def says_its_name(dataset):
    return all(text.split()[-1] == name for split in dataset.splits for text, name in named(dataset, split).items())


@pytest.mark.parametrize("other", [["pos", "neg"], ["neg", "pos", "mixed"], ["mixed", "pos", "neg"]])
@pytest.mark.parametrize("files", [{"train": "a.parquet", "test": "b.parquet"}, {"train": "[ab].parquet"}])
def test_the_names_of_each_file_decide_its_rows(tmp_path, files, other):
    declared(tmp_path / "a.parquet", ["neg", "pos"], ["pos", "neg"] * 10)
    declared(tmp_path / "b.parquet", other, ["neg", "pos", other[0]] * 5)
    dataset = read(tmp_path, files)
    assert says_its_name(dataset)
    assert dataset.label_names[:2] == ("neg", "pos")


def test_a_file_without_names_beside_files_of_different_names_is_refused(tmp_path):
    declared(tmp_path / "a.parquet", ["neg", "pos"], ["pos", "neg"] * 10)
    declared(tmp_path / "b.parquet", ["pos", "neg"], ["pos", "neg"] * 10)
    declared(tmp_path / "c.parquet", ["pos", "neg"], ["pos", "neg"] * 10, declares=False)
    with pytest.raises(DataError, match=r"different names for the numbers.*neg, pos; pos, neg"):
        read(tmp_path, {"train": "[abc].parquet"})
    declared(tmp_path / "c.parquet", ["pos", "neg"], [None] * 10, declares=False)
    assert says_its_name(read(tmp_path, {"train": "[ab].parquet", "test": "c.parquet"}))


def test_given_names_in_another_order_than_the_declared_ones_move_no_label(tmp_path):
    name = declared(tmp_path / "a.parquet", ["neg", "pos"], ["pos", "neg"] * 10)
    dataset = read(tmp_path, name, label_names=["pos", "neg"])
    assert (dataset.label_names, says_its_name(dataset)) == (("pos", "neg"), True)
    assert read(tmp_path, name, label_names=["bad", "good"]).train.targets[:2].tolist() == [1, 0]
    with pytest.raises(DataError, match="write the labels as text"):
        read(tmp_path, name, label_names=["pos", "other"])


def test_the_splits_of_a_dataset_dict_keep_their_own_names():
    import datasets

    def split(names):
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        labels = [names.index(x) for x in ["pos", "neg"] * 10]
        texts = [f"{i} {'neg' if i % 2 else 'pos'}" for i in range(20)]
        return datasets.Dataset.from_dict({"text": texts, "label": labels}, features=features)

    def dataset(test):
        rows = datasets.DatasetDict({"train": split(["neg", "pos"]), "test": split(test)})
        return dataset_from_rows("d", "classification", rows)

    assert says_its_name(dataset(["pos", "neg"]))


def test_rows_of_the_datasets_library_are_recognised_while_another_thread_imports_it(tmp_path, monkeypatch):
    import sys
    import types

    import datasets

    rows = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["a", "b"]})})
    (tmp_path / "source.py").write_text("rows = None\n\ndef make():\n    return rows\n")
    stream = datasets.IterableDataset.from_generator(lambda: iter([{"text": "a"}]))
    with pytest.raises(DataError, match="gave IterableDataset; give"):
        dataset_from_rows("d", "classification", {"train": stream})
    monkeypatch.setitem(sys.modules, "datasets", types.ModuleType("datasets"))  # as an import that has just begun
    monkeypatch.setattr("fute.data.readers.python.load_entry_point", lambda *_: lambda: rows)
    source = PythonSource(source="python", entry_point="source:make")
    assert read_tables(source, ["text"], [], tmp_path)["train"].column("text").to_pylist() == ["a", "b"]


# ----------------------------------------------------------------------------------------------------- predictions


def predict(folder, table, columns, texts, **settings):
    name = write(folder / "p.csv", table, columns)
    return build_model(PredictionsModel(kind="predictions", id="m", file=name, **settings), folder).outputs(texts)


TEXTS = TextTable([f"t{i}" for i in range(20)])


@pytest.mark.parametrize("form", ["{}", "{}.0", "{}.00"])
def test_predicted_whole_numbers_with_gaps_are_classes(tmp_path, form):
    table = [(i, form.format(i % 3) if i % 5 else "") for i in range(20)]
    outputs = predict(tmp_path, table, ("row", "label"), TEXTS, label="label")
    assert (outputs.kind, outputs.label_names) == ("labels", ("0", "1", "2"))
    assert outputs.answered_rows.tolist() == [i for i in range(20) if i % 5]
    assert outputs.values[outputs.answered_rows].argmax(axis=1).tolist() == [i % 3 for i in range(20) if i % 5]


def test_predicted_numbers_with_fractions_are_scores_and_missing_ones_no_answer(tmp_path):
    table = [(i, "" if i == 3 else "NA" if i == 4 else i / 2) for i in range(20)]
    outputs = predict(tmp_path, table, ("row", "label"), TEXTS, label="label")
    assert (outputs.kind, outputs.values[5].tolist()) == ("scores", [2.5])
    assert outputs.answered_rows.tolist() == [0, 1, 2, *range(5, 20)]


def test_texts_that_look_like_numbers_find_their_rows_and_a_blank_second_text_is_none(tmp_path):
    texts = TextTable(["001", "1", "2020-01-01", "True"], ["01", None, None, "x"])
    table = [("001", "01", "a"), ("1", "", "b"), ("2020-01-01", "", "c"), ("True", "x", "d")]
    outputs = predict(tmp_path, table, ("t", "p", "y"), texts, row=None, text="t", text_pair="p", label="y")
    assert outputs.values.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert outputs.answered is None


def test_columns_of_numbers_are_read_as_such_and_answers_as_text(tmp_path):
    table = [("00", "0.25", "7.5E-1"), ("01", "1", "0"), ("2", "NA", "1"), ("3", "", "")]
    outputs = predict(tmp_path, table, ("row", "p", "q"), TextTable(["a", "b", "c", "d"]), probabilities=["p", "q"])
    assert outputs.answered_rows.tolist() == [0, 1]
    assert outputs.values[0].tolist() == [0.25, 0.75]
    years = TextTable(["when"] * 2, ["it was 1990", "or 2001?"])
    spans = predict(tmp_path, [(0, "1990"), (1, "2001")], ("row", "a"), years, answer="a")
    assert spans.values[:, :2].tolist() == [[7, 11], [3, 7]]
    with pytest.raises(ModelError, match="pool rows are whole numbers"):
        predict(tmp_path, [("a1", "x"), ("a2", "y")], ("row", "y"), TEXTS, label="y")


def test_line_breaks_in_texts_cross_no_block(tmp_path):
    texts = [f"number {i}\n" + "word " * 300 for i in range(1500)]
    table = [(text, "ab"[i % 2]) for i, text in enumerate(texts)]
    outputs = predict(tmp_path, table, ("text", "label"), TextTable(texts), row=None, text="text", label="label")
    assert outputs.answered is None
    assert outputs.details["rows_unused"] == 0


def test_predicted_booleans_are_called_as_those_of_a_dataset(tmp_path):
    table = [(f"text {i}", i % 2 == 0, i) for i in range(20)]
    name = write(tmp_path / "r.parquet", table, ("text", "label", "row"))
    model = build_model(PredictionsModel(kind="predictions", id="m", file=name, label="label"), tmp_path)
    assert model.outputs(TEXTS).label_names == read(tmp_path, name).label_names == ("false", "true")


# --------------------------------------------------------------------------------------------------- fingerprints


@pytest.mark.parametrize(
    ("ending", "labels", "settings", "known"),
    [
        ("csv", ["no", "yes"], {}, "2d035167904fc2bc34dd"),
        ("csv", ["0", "1", "10"], {}, "e2ef371dba141c63cc59"),
        ("csv", ["0", "1", "10"], {"label_names": ["a", "b"]}, "a3937d13b180f8590a0e"),
        ("csv", ["NA", "b"], {}, "dc9c53e57344f6b75d67"),
        ("jsonl", ["no", "yes"], {}, "03cf65f949fe1077950d"),
        ("jsonl", [0, 1, 10], {}, "c4b271bbcac91c66d091"),
        ("jsonl", [True, False], {}, "144ab51835f1c89b233b"),
    ],
)
def test_what_is_read_as_ever_keeps_its_fingerprint(tmp_path, ending, labels, settings, known):
    table = [(f"text {i}", labels[i % len(labels)]) for i in range(24)]
    lines = (
        [f"{t},{x}" for t, x in table] if ending == "csv" else [json.dumps({"text": t, "label": x}) for t, x in table]
    )
    head = ["text,label"] if ending == "csv" else []
    (tmp_path / f"r.{ending}").write_text("\n".join([*head, *lines]) + "\n")
    assert dataset_fingerprint(DatasetConfig(id="d", data={"files": f"r.{ending}"}, **settings), tmp_path, 0) == known


@pytest.mark.parametrize(
    ("ending", "labels", "settings", "version"),
    [
        ("csv", ["01", "1"], {}, 2),
        ("csv", ["True", "False"], {}, 2),
        ("csv", ["09:15", "12:30"], {}, 2),
        ("csv", ["1", "NA"], {}, 2),
        ("csv", ["0.5", "1.5"], {"task": "regression"}, 1),
        ("jsonl", ["2020-01-01", "2021-01-01"], {}, 2),
        ("parquet", ["01", "1"], {}, 1),
        ("parquet", [True, False], {"label_names": ["True", "False"]}, 2),
        ("parquet", [1, 2], {"label_names": ["1", "2"]}, 2),
    ],
)
def test_what_is_read_otherwise_has_another_fingerprint(tmp_path, ending, labels, settings, version):
    config = DatasetConfig(id="d", data={"files": write(tmp_path / f"r.{ending}", rows(labels))}, **settings)
    dataset = ingest(config, tmp_path, 0)
    assert dataset.provenance["ingest_version"] == version
    assert dataset.fingerprint == dataset_fingerprint(config, tmp_path, 0)


@pytest.mark.parametrize(("second", "settings", "version"), [
    (["pos", "neg"], {}, 2), (["neg", "pos"], {}, 1),
    (["neg", "pos"], {"label_names": ["pos", "neg"]}, 2), (["neg", "pos"], {"label_names": ["bad", "good"]}, 1),
])  # fmt: skip
def test_declared_names_that_were_not_looked_at_change_the_fingerprint(tmp_path, second, settings, version):
    declared(tmp_path / "a.parquet", ["neg", "pos"], ["pos", "neg"] * 10)
    declared(tmp_path / "b.parquet", second, ["pos", "neg"] * 10)
    dataset = read(tmp_path, {"train": "a.parquet", "test": "b.parquet"}, **settings)
    assert dataset.provenance["ingest_version"] == version


def test_the_pool_reads_texts_as_datasets_do(tmp_path):
    texts = ["001", "2020-01-01", "True", "NA", "1E2"]
    for ending in ("csv", "jsonl", "parquet"):
        source = FileSource(files=write(tmp_path / f"u.{ending}", [(text,) for text in texts], ("text",)))
        assert read_tables(source, ["text"], [], tmp_path)["train"].column("text").to_pylist() == texts
