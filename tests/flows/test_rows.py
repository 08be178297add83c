"""Tables on a terminal that is narrower than they are."""

from __future__ import annotations

import io

import pytest

from flows.rows import accuracy_told, write_rows
from storage.nearest import NEAREST

COLUMNS = ["space", "method", "candidate", "note"]
ROWS = [
    ("03cf3272cf2caadb6f2d", None, name, "a note of some length that takes its room") for name in ("first", "second")
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, width: int, rows: list[tuple[object, ...]]) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    terminal = Terminal()
    write_rows(COLUMNS, rows, None, terminal)
    return terminal.getvalue()


def test_what_all_rows_have_is_said_once_where_a_table_is_too_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    told = shown(monkeypatch, 80, [*ROWS, ("03cf3272cf2caadb6f2d", None, "third", "another")])
    assert told.startswith("in all rows: space 03cf3272cf2caadb6f2d\n")
    assert told.count("03cf3272cf2caadb6f2d") == 1
    assert "method" not in told
    assert all(name in told for name in ("candidate", "note", "first", "second", "third", "another"))


@pytest.mark.parametrize(("width", "rows"), [(200, ROWS), (60, ROWS[:1])])
def test_a_table_that_fits_and_a_single_row_stay_whole(
    monkeypatch: pytest.MonkeyPatch, width: int, rows: list[tuple[object, ...]]
) -> None:
    told = shown(monkeypatch, width, rows)
    assert "in all rows" not in told
    assert "method" in told


def test_a_file_gets_every_column() -> None:
    file = io.StringIO()
    write_rows(COLUMNS, ROWS, None, file)
    assert file.getvalue().count("03cf3272cf2caadb6f2d") == 2


def test_neighbours_of_a_model_say_how_often_it_is_right_on_each_dataset() -> None:
    known = {"expected_accuracy": 0.86, "accuracy_low": 0.81, "accuracy_high": 0.9}
    rows = [
        {**dict.fromkeys(NEAREST.names), "candidate_kind": kind, **told}
        for kind, told in (
            ("dataset", known),
            ("dataset", {"accuracy_unknown": "it is shy"}),
            ("dataset", {}),
            ("model", {}),
        )
    ]
    words = [row["expected accuracy"] for row in accuracy_told(rows)]
    assert words == ["right in 0.86 (0.81 to 0.90) of it", "unknown: it is shy", "", ""]
    assert accuracy_told([{**rows[0], "candidate_kind": "model"}])[0]["expected accuracy"] == words[0][: -len(" of it")]
    assert "expected accuracy" not in accuracy_told(rows[2:])[0]
