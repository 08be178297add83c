"""Tables on a terminal that is narrower than they are."""

from __future__ import annotations

import io

import pytest

from flows.rows import write_rows

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
