"""Rows that a Python function returns."""

from __future__ import annotations

from typing import Literal, get_args

import pytest

from fute.config import PythonSource, Source
from fute.data.read import READERS, read_tables, source_identity
from fute.errors import DataError


def test_a_python_function_gives_rows_and_its_code_is_part_of_the_identity(tmp_path):
    (tmp_path / "rows.py").write_text("def make(n):\n    return {'train': {'text': ['t'] * n, 'more': range(n)}}\n")
    source = PythonSource(source="python", entry_point="rows:make", kwargs={"n": 3})
    assert read_tables(source, ["text"], [], tmp_path)["train"].column("text").to_pylist() == ["t", "t", "t"]
    before = source_identity(source, tmp_path)
    (tmp_path / "rows.py").write_text("def make(n):\n    raise KeyError('gone')\n")
    assert source_identity(source, tmp_path) != before
    with pytest.raises(DataError, match="rows:make raised KeyError"):
        read_tables(source, ["text"], [], tmp_path)


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("[1]", "gave list"),
        ("{'train': [1]}", r"\(train\) gave list; give"),
        ("{'train': {'text': ['a', 3]}}", "column 'text' cannot be read"),
        ("{'train': {'text': ['a'], 'label': [1, 2]}}", "different lengths"),
        ("{'train': {'txt': ['a']}}", "no column 'text'"),
    ],
)
def test_what_are_no_rows_is_refused(tmp_path, returned, says):
    (tmp_path / "rows.py").write_text(f"def make():\n    return {returned}\n")
    columns = ["label"] if "label" in returned else []
    with pytest.raises(DataError, match=says):
        read_tables(PythonSource(source="python", entry_point="rows:make"), ["text"], columns, tmp_path)


@pytest.mark.parametrize(
    "returned",
    [
        "ROWS",
        "{name: [row[name] for row in ROWS] for name in ROWS[0]}",
        "pyarrow.Table.from_pylist(ROWS)",
        "pandas.DataFrame(ROWS, index=['b', 'a'])",
        "duckdb.sql(\"SELECT * FROM (VALUES (1, 'a b'), (NULL, 'c')) t(label, text) ORDER BY text\")",
        "datasets.Dataset.from_list(ROWS)",
        "{'train': pandas.DataFrame(ROWS)}",
        "datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS))",
    ],
)
def test_a_table_of_any_library_is_the_training_rows_or_one_of_the_splits(tmp_path, returned):
    head = (
        "import datasets, duckdb, pandas, pyarrow\nROWS = [{'label': 1, 'text': 'a b'}, {'label': None, 'text': 'c'}]\n"
    )
    (tmp_path / "rows.py").write_text(f"{head}def make():\n    return {returned}\n")
    source = PythonSource(source="python", entry_point="rows:make")
    tables = read_tables(source, ["text"], ["label"], tmp_path)
    assert {split: table.to_pylist() for split, table in tables.items()} == {
        "train": [{"text": "a b", "label": 1}, {"text": "c", "label": None}]
    }


def test_a_misspelt_column_of_a_table_is_not_taken_for_a_split(tmp_path):
    (tmp_path / "rows.py").write_text("def make():\n    return {'txt': ['a'], 'label': [1]}\n")
    with pytest.raises(DataError, match=r"no column 'text'; did you mean 'txt'"):
        read_tables(PythonSource(source="python", entry_point="rows:make"), ["text"], ["label"], tmp_path)


def test_every_kind_of_source_that_a_study_may_name_has_a_reader():
    union, *_ = get_args(Source)
    assert {kind.model_fields["source"].annotation for kind in get_args(union)} == {Literal[name] for name in READERS}
