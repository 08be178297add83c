"""Rows of local files."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fute.config import FileSource
from fute.data.read import read_tables, source_identity
from fute.errors import ConfigError, DataError

ROWS = [
    {"text": "a plain one", "label": 1},
    {"text": "12", "label": 0},
    {"text": 'a "quoted", one\nof two lines', "label": 1},
]


def write(folder, form):
    path = folder / f"rows.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif form == "jsonl":
        path.write_text("\n".join(json.dumps({**row, "other": None}) for row in ROWS) + "\n")
    else:
        cells = ['"' + str(row["text"]).replace('"', '""') + f'",{row["label"]}' for row in ROWS]
        path.write_text("text,label\n" + "\n".join(cells) + "\n")
    return path


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_the_same_rows_come_out_of_every_format(tmp_path, form):
    write(tmp_path, form)
    table = read_tables(FileSource(files=f"rows.{form}"), ["text"], ["label"], tmp_path)["train"]
    assert table.to_pylist() == ROWS
    assert table.schema.names == ["text", "label"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_text_that_looks_like_numbers_dates_or_nothing_stays_text(tmp_path, form):
    values = ["2020-01-01", "NA", "1e3", "null", "007"]
    if form == "csv":
        (tmp_path / "r.csv").write_text("text,label\n" + "\n".join(f"{v},x" for v in values))
    else:
        (tmp_path / "r.jsonl").write_text("\n".join(json.dumps({"text": v, "label": "x"}) for v in values))
    table = read_tables(FileSource(files=f"r.{form}"), ["text"], ["label"], tmp_path)["train"]
    assert table.column("text").to_pylist() == values


def test_labels_that_change_their_look_late_in_a_long_file_are_read(tmp_path):
    lines = [f"some text number {i} that is long enough to fill a block,{i % 3}" for i in range(30_000)]
    (tmp_path / "r.csv").write_text("text,label\n" + "\n".join([*lines, "the last one,none"]))
    table = read_tables(FileSource(files="r.csv"), ["text"], ["label"], tmp_path)["train"]
    assert table.column("label")[-1].as_py() == "none"
    assert table.column("label")[0].as_py() == "0"


def test_the_files_of_a_glob_are_one_split_in_the_order_of_their_names(tmp_path):
    for part in (1, 0):
        pq.write_table(pa.table({"text": [f"part {part}"]}), tmp_path / f"train-{part}.parquet")
    source = FileSource(files={"train": "train-*.parquet"})
    assert read_tables(source, ["text"], [], tmp_path)["train"].column("text").to_pylist() == ["part 0", "part 1"]


def test_a_folder_called_like_a_partition_adds_no_column(tmp_path):
    (tmp_path / "label=9").mkdir()
    pq.write_table(pa.table({"text": ["x"], "label": [1]}), tmp_path / "label=9" / "a.parquet")
    table = read_tables(FileSource(files="label=9/a.parquet"), ["text"], ["label"], tmp_path)["train"]
    assert table.to_pylist() == [{"text": "x", "label": 1}]


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_a_missing_column_is_named_with_those_that_there_are(tmp_path, form):
    write(tmp_path, form)
    with pytest.raises(DataError, match=r"no column 'labell'; did you mean 'label'\. Columns there: text, label"):
        read_tables(FileSource(files=f"rows.{form}"), ["text"], ["labell"], tmp_path)


def test_a_jsonl_column_that_first_occurs_late_is_found(tmp_path):
    rows = [{"text": f"t{i}"} for i in range(3000)] + [{"text": "last", "text_pair": "p"}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = read_tables(FileSource(files="r.jsonl"), ["text", "text_pair"], [], tmp_path)["train"]
    assert table.column("text_pair").null_count == 3000


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("r.parquet", b"no parquet", "cannot be read as parquet"),
        ("r.jsonl", b'{"text": "a"\n', "line 1"),
        ("r.jsonl", b"[1]\n", "line 1 is no object"),
        ("r.csv", b"", "cannot be read as csv"),
        ("r.csv", b"text,label\n\xff\xfe,1\n", "UTF"),
    ],
)
def test_an_unreadable_file_says_what_it_is(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_tables(FileSource(files=name), ["text"], [], tmp_path)


def test_a_text_column_of_numbers_is_refused(tmp_path):
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "r.parquet")
    with pytest.raises(DataError, match="holds int64, not text"):
        read_tables(FileSource(files="r.parquet"), ["text"], [], tmp_path)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ("trane.csv", "did you mean 'train.csv'"),
        ("nowhere/a.csv", "does not exist"),
        ("*.parquet", "no file matches"),
        ("sub", "is a folder"),
        ("notes.txt", "set `format`"),
    ],
)
def test_a_file_that_is_not_there_is_explained(tmp_path, files, says):
    (tmp_path / "train.csv").write_text("text\nx\n")
    (tmp_path / "notes.txt").write_text("text\nx\n")
    (tmp_path / "sub").mkdir()
    with pytest.raises(ConfigError, match=says):
        read_tables(FileSource(files=files), ["text"], [], tmp_path)


def test_identity_follows_content_not_place(tmp_path):
    (tmp_path / "a.csv").write_text("text\nx\n")
    (tmp_path / "b.csv").write_text("text\nx\n")
    (tmp_path / "c.csv").write_text("text\ny\n")
    a, b, c = (source_identity(FileSource(files=f"{n}.csv"), tmp_path) for n in "abc")
    assert a == b != c
    assert json.loads(json.dumps(a)) == a
