"""Files as people have them: what holds the same rows reads the same, and what was guessed is said."""

from __future__ import annotations

import gzip
import json
import logging

import pyarrow.parquet as pq
import pytest

from fute.config import DatasetConfig, FileSource, PoolConfig
from fute.data.ingest import ingest
from fute.data.pool_sources import pool_sources
from fute.data.read import read_tables, source_identity, source_problems
from fute.errors import ConfigError, DataError

ROWS = [
    {"text": "Grüße aus Köln, sagte er; müde", "label": "gut"},
    {"text": 'ein "zitiertes"\nWort über zwei Zeilen', "label": "schlecht"},
    {"text": "2024", "label": "gut"},
]


def cells(separator):
    def cell(value):
        return '"' + value.replace('"', '""') + '"' if set(value) & {separator, '"', "\n"} else value

    return "\n".join(separator.join(map(cell, row)) for row in [("text", "label"), *(r.values() for r in ROWS)]) + "\n"


def read(folder, files, text="text", label="label", **settings):
    return read_tables(FileSource(files=files, **settings), [text], [label], folder)["train"].to_pylist()


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="fute")
    return lambda: [record.getMessage() for record in caplog.records]


# -------------------------------------------------------------------------------------------------- cells and records


@pytest.mark.parametrize(
    ("name", "content", "remark"),
    [
        ("r.csv", cells(","), None),
        ("r.csv", cells(";"), "r.csv: cells separated by semicolons"),
        ("r.csv", cells("\t"), "r.csv: cells separated by tabs"),
        ("r.csv", cells("|"), "r.csv: cells separated by bars"),
        ("r.tsv", cells("\t"), None),
        ("r.json", json.dumps(ROWS), None),
        ("r.json", json.dumps(ROWS, indent=2, ensure_ascii=False), None),
        ("r.json", "\n".join(map(json.dumps, ROWS)), "r.json: one object a line, as in JSONL"),
    ],
)
def test_rows_are_the_same_whatever_separates_them(tmp_path, said, name, content, remark):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read(tmp_path, name) == ROWS
    assert said() == ([] if remark is None else [remark])


@pytest.mark.parametrize("name", ["r.csv.gz", "r.tsv.gz", "r.json.gz", "r.jsonl.gz"])
def test_compressed_files_are_unpacked(tmp_path, name):
    plain = {"csv": cells(","), "tsv": cells("\t"), "json": json.dumps(ROWS), "jsonl": "\n".join(map(json.dumps, ROWS))}
    (tmp_path / name).write_bytes(gzip.compress(plain[name.split(".")[1]].encode()))
    assert read(tmp_path, name) == ROWS
    (source,) = pool_sources(PoolConfig.model_validate({"sources": [{"data": {"files": "*.gz"}}]}), tmp_path)
    assert source.id == "r"
    (tmp_path / name).write_bytes(gzip.compress(b"text,label\n")[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path, name)


@pytest.mark.parametrize(
    ("encoding", "remark"),
    [
        ("utf-8-sig", None),
        ("latin-1", "r.csv: read as Latin-1 (Windows-1252), since it is not UTF-8"),
        ("utf-16", "r.csv: read as UTF-16"),
        ("utf-16-le", "r.csv: read as UTF-16-LE"),
        ("utf-16-be", "r.csv: read as UTF-16-BE"),
    ],
)
def test_an_encoding_that_the_bytes_tell_is_read_and_said(tmp_path, said, encoding, remark):
    (tmp_path / "r.csv").write_text(cells(","), encoding=encoding)
    assert read(tmp_path, "r.csv") == ROWS
    assert said() == ([] if remark is None else [remark])
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in ROWS), encoding=encoding)
    assert read(tmp_path, "r.jsonl") == ROWS


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "shift_jis", "gb18030", "big5", "euc-kr", "damaged utf-8"])
def test_an_encoding_that_the_bytes_do_not_tell_is_refused_and_can_be_named(tmp_path, encoding):
    words = {
        "cp1251": "Мы довольны",
        "koi8-r": "Мы довольны",
        "shift_jis": "とても良かったです",
        "gb18030": "非常满意",
        "big5": "非常滿意",
        "euc-kr": "매우 만족합니다",
        "damaged utf-8": "très bien, über alles",
    }
    text = f"text,label\n{words[encoding]},gut\n"
    data = text.encode()[:-5] + b"\xe9" if "utf-8" in encoding else text.encode(encoding)
    (tmp_path / "r.csv").write_bytes(data)
    with pytest.raises(DataError, match="set `encoding`"):
        read(tmp_path, "r.csv")
    if "utf-8" not in encoding:
        assert read(tmp_path, "r.csv", encoding=encoding) == [{"text": words[encoding], "label": "gut"}]


def test_accents_of_many_languages_are_latin_1(tmp_path):
    words = [
        "größer süß",
        "päällä on määrä",
        "garçon, où ça ?",
        "mañana señor",
        "coração não",
        "“smart” quotes…",
        "10 €",
    ]
    (tmp_path / "r.csv").write_bytes(("text,label\n" + "".join(f'"{w}",x\n' for w in words)).encode("cp1252"))
    assert [row["text"] for row in read(tmp_path, "r.csv")] == words


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "r.csv").write_text(cells(","), encoding="utf-8-sig")
    assert read(tmp_path, "r.csv", encoding="utf-8") == ROWS


def test_an_encoding_or_separator_that_is_nothing_is_refused():
    with pytest.raises(ValueError, match="knows no encoding"):
        FileSource(files="r.csv", encoding="latin-7000")
    with pytest.raises(ValueError, match="separator"):
        FileSource(files="r.csv", separator=";;")


def test_a_first_line_that_can_be_read_in_two_ways_is_refused(tmp_path):
    (tmp_path / "s.csv").write_text("x,text,b;text;c\n1,2,3;4;5\n")
    with pytest.raises(DataError, match="with commas or with semicolons between its cells; set `separator`"):
        read_tables(FileSource(files="s.csv"), ["text"], [], tmp_path)
    chosen = read_tables(FileSource(files="s.csv", separator=";"), ["text"], [], tmp_path)["train"].to_pylist()
    assert chosen == [{"text": "4"}]


def test_a_missing_column_is_told_with_the_columns_that_the_likely_separator_makes(tmp_path):
    (tmp_path / "r.csv").write_text("Text;Kind;Number\na, b;c;1\n")
    (problem,) = source_problems(FileSource(files="r.csv"), ["text", "label"], tmp_path)
    assert "no column 'text'; did you mean 'Text'" in problem
    assert "Columns there: Text, Kind, Number" in problem


def test_quotes_in_a_table_without_quoting_swallow_no_rows(tmp_path, said):
    lines = ['"Well, he said', "fine", 'it is 5" long', 'no "', '"quoted"']
    (tmp_path / "r.tsv").write_text("text\tlabel\n" + "".join(f"{line}\tx\n" for line in lines))
    assert [row["text"] for row in read(tmp_path, "r.tsv")] == lines
    assert said() == ["r.tsv: quotes are part of its texts"]


@pytest.mark.parametrize("separator", [",", ";", "|"])
def test_quotes_in_a_table_without_quoting_swallow_no_rows_whatever_the_separator(tmp_path, said, separator):
    lines = ['"Well he said', "fine", 'no "', '"another']
    rows = [("label", "text"), *(("x", line) for line in lines)]
    (tmp_path / "r.csv").write_text("".join(f"{a}{separator}{b}\n" for a, b in rows))
    assert [row["text"] for row in read(tmp_path, "r.csv")] == lines
    assert "r.csv: quotes are part of its texts" in said()


@pytest.mark.parametrize("text", ['text\n"one\nline"\n"two"\n', 'text,label\n"one\nline",x\n"two, three",y\n'])
def test_quoted_texts_of_several_lines_are_one_text(tmp_path, text):
    (tmp_path / "r.csv").write_text(text)
    assert read_tables(FileSource(files="r.csv"), ["text"], [], tmp_path)["train"][0][0].as_py() == "one\nline"


def test_what_was_set_by_hand_is_part_of_the_identity_and_what_was_found_is_not(tmp_path):
    (tmp_path / "r.csv").write_text("text;label\na;b\n")
    found, given = (source_identity(FileSource(files="r.csv", separator=s), tmp_path) for s in (None, ";"))
    assert [len(file) for file in (found["files"]["train"][0], given["files"]["train"][0])] == [2, 3]


def test_ingest_keeps_what_was_guessed_in_its_report(tmp_path):
    rows = "".join(f"Wort number {i} müde;{i % 2}\n" for i in range(20))
    (tmp_path / "r.csv").write_text("text;label\n" + rows, encoding="latin-1")
    dataset = ingest(DatasetConfig(id="d", data={"files": "r.csv"}), tmp_path, 0)
    assert dataset.report["read_as"] == [
        "r.csv: cells separated by semicolons",
        "r.csv: read as Latin-1 (Windows-1252), since it is not UTF-8",
    ]


def test_a_list_that_holds_no_rows_is_explained(tmp_path):
    (tmp_path / "r.json").write_text('{"text": ["a"],\n "label": [1]}')
    with pytest.raises(DataError, match="no list of objects; write it as"):
        read(tmp_path, "r.json")


# ------------------------------------------------------------------------------------------------------------- sheets


def workbook(path, **sheets):
    openpyxl = pytest.importorskip("openpyxl", reason="the extra `xlsx` is not installed")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)


def test_the_sheet_with_the_columns_is_read(tmp_path, said):
    rows = [["text", "label", "note"], *([*row.values(), None] for row in ROWS[:2]), [2024, "gut", 0.5], [None, None]]
    workbook(tmp_path / "r.xlsx", about=[["made by", "us"]], rows=rows)
    assert read(tmp_path, "r.xlsx") == ROWS
    assert said() == ["r.xlsx: rows of sheet 'rows', of 2"]


def test_labels_in_a_sheet_are_read_like_those_of_a_csv_file(tmp_path):
    workbook(tmp_path / "r.xlsx", one=[["text", "label"], ["a", 1], ["b", 0.0], [7, 1]])
    assert read(tmp_path, "r.xlsx") == [
        {"text": "a", "label": 1},
        {"text": "b", "label": 0},
        {"text": "7", "label": 1},
    ]


def test_two_sheets_of_rows_and_cells_of_errors_are_refused(tmp_path):
    rows = [["text", "label"], ["a", "x"]]
    workbook(tmp_path / "r.xlsx", one=rows, two=rows)
    with pytest.raises(DataError, match="any of the sheets 'one', 'two'; keep one"):
        read(tmp_path, "r.xlsx")
    workbook(tmp_path / "r.xlsx", one=[*rows, ["b", "#N/A"]])
    with pytest.raises(DataError, match="cell B3 holds #N/A"):
        read(tmp_path, "r.xlsx")


def test_without_its_library_a_sheet_is_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    (tmp_path / "r.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="pip install .fute.xlsx"):
        read(tmp_path, "r.xlsx")


# ------------------------------------------------------------------------------------------------------------ folders


def texts(folder, **files):
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_folder_of_texts_has_a_label_for_each_folder_in_it(tmp_path, said):
    texts(tmp_path / "r", good__1="fine\n", bad__1="awful", good__2="great", notes="urls")
    rows = [("awful", "bad"), ("fine", "good"), ("great", "good")]
    assert [tuple(row.values()) for row in read(tmp_path, "r")] == rows
    assert said() == ["r: a label for each of its 2 folders", "r: 1 .txt files beside them left out"]
    before = source_identity(FileSource(files="r"), tmp_path)
    texts(tmp_path / "r", good__2="great!")
    assert source_identity(FileSource(files="r"), tmp_path) != before


def test_a_folder_of_texts_alone_is_a_source_of_a_pool(tmp_path):
    texts(tmp_path / "r", b="two", a="one")
    table = read_tables(FileSource(files="r"), ["text"], [], tmp_path)["train"]
    assert table.to_pylist() == [{"text": "one"}, {"text": "two"}]
    assert "no column 'label'" in source_problems(FileSource(files="r"), ["text", "label"], tmp_path)[0]


def test_folders_of_splits_are_named_as_such(tmp_path):
    texts(tmp_path / "r", train__good__1="a", train__bad__1="b", test__good__1="c", test__bad__1="d")
    with pytest.raises(ConfigError, match="no saved dataset"):
        read(tmp_path, "r")
    files = {"train": "r/train", "test": "r/test"}
    tables = read_tables(FileSource(files=files), ["text"], ["label"], tmp_path)
    assert {split: table.num_rows for split, table in tables.items()} == {"train": 2, "test": 2}


def test_a_single_text_file_is_not_guessed_at(tmp_path):
    texts(tmp_path, a="text\nfirst, and more\nsecond")
    with pytest.raises(ConfigError, match="may be one text, or one a line"):
        read(tmp_path, "a.txt")
    table = read_tables(FileSource(files="a.txt", format="tsv"), ["text"], [], tmp_path)["train"]
    assert table.to_pylist() == [{"text": "first, and more"}, {"text": "second"}]


def test_saved_datasets_are_read_with_their_splits_and_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])}
    )
    rows = {"text": [f"text number {i}" for i in range(20)], "label": [0, 1] * 10}
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.save_to_disk(tmp_path / "one")
    parts = datasets.DatasetDict(train=whole.select(range(16)), test=whole.select(range(16, 20)))
    parts.save_to_disk(tmp_path / "parts")
    dataset = ingest(DatasetConfig(id="d", data={"files": "parts"}), tmp_path, 0)
    assert dataset.label_names == ("ham", "spam")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 16, "test": 4}
    assert len(read(tmp_path, "one")) == 20
    assert source_identity(FileSource(files="one"), tmp_path) != source_identity(FileSource(files="parts"), tmp_path)


def test_parquet_is_found_by_its_short_ending(tmp_path):
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "r.pq")
    assert read(tmp_path, "r.pq") == ROWS
