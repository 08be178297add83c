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
        ("{'train': [1]}", "give a mapping from column to list"),
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


def test_every_kind_of_source_that_a_study_may_name_has_a_reader():
    union, *_ = get_args(Source)
    assert {kind.model_fields["source"].annotation for kind in get_args(union)} == {Literal[name] for name in READERS}
