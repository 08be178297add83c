"""Rows as a table, JSON, CSV or Parquet. Cells are data: a terminal takes none of them for a command, and no markup."""

from __future__ import annotations

import csv
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

import click
from rich.console import Console

from flows.console import PlainTable, say
from fute.json_text import json_text
from fute.terminal import printable


def table_of(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> PlainTable:
    """Rows as a terminal shows them."""
    table = PlainTable(*columns)
    for row in rows:
        table.add_row(*map(cell, row))
    return table


def cell(value: Any) -> str:
    """A value in a table: long lists cut."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple) and len(value) > 6:
        return f"[{', '.join(f'{v:.3g}' if isinstance(v, float) else str(v) for v in value[:4])}, ... {len(value)}]"
    return str(value)


def accuracy_told(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of neighbours for a reader: in one cell, before its score, how often each model will be right, or on each
    dataset the model whose neighbours they are; no such column where nobody looked."""
    from storage.nearest import ACCURACY
    from storage.summary import right_in_words

    told = []
    for row in rows:
        looked_at = any(row[name] is not None for name in ACCURACY)
        known = looked_at and row["candidate_kind"] == "dataset" and row["expected_accuracy"] is not None
        told.append((right_in_words(row) if looked_at else "") + (" of it" if known else ""))
    return [
        {
            **{name: row[name] for name in ("space", "method", "candidate_kind", "rank", "candidate")},
            **({"expected accuracy": words} if any(told) else {}),
            **{name: value for name, value in row.items() if name not in (*ACCURACY, "candidate")},
        }
        for row, words in zip(rows, told, strict=True)
    ]


def to_json(value: Any) -> str:
    """As JSON that every reader takes, and no terminal obeys."""
    return json_text(value, indent=2, ascii=True)


def without_noise(value: Any) -> Any:
    """A number of single precision as the shortest decimal that is the same single: 0.95, not 0.949999988079071."""
    if isinstance(value, list | tuple):
        return [without_noise(each) for each in value]
    if isinstance(value, float) and _single(value) == value:
        return next(short for digits in range(1, 18) if _single(short := float(f"{value:.{digits}g}")) == value)
    return value


def _single(value: float) -> float | None:
    """The single precision number next to it; None where there is none."""
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return None


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]], file: IO[str]) -> None:
    """Whole values; control characters too, but for a terminal."""
    rows = ([without_noise(value) for value in row] for row in rows)
    if file.isatty():
        columns = [printable(name) for name in columns]
        rows = [[None if value is None else printable(value) for value in row] for row in rows]
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows(rows)


def write_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], form: str | None, file: IO[str]) -> None:
    """Write rows to a text file: json, csv, or else a table."""
    if form == "json":
        file.write(to_json([dict(zip(columns, row, strict=True)) for row in rows]) + "\n")
    elif form == "csv":
        write_csv(columns, rows, file)
    else:
        # Into a pipe or file, lines are not cut at 80 columns.
        console, rows = Console(file=file, width=None if file.isatty() else 200), list(rows)
        if file.isatty() and _wider(table_of(columns, rows), console):
            columns, rows = _say_once(columns, rows, console)
        console.print(table_of(columns, rows))


def _wider(table: PlainTable, console: Console) -> bool:
    unbounded = console.options.update(max_width=10_000)
    return console.measure(table, options=unbounded).maximum > console.width


def _say_once(
    columns: Sequence[str], rows: list[Sequence[Any]], console: Console
) -> tuple[list[str], list[Sequence[Any]]]:
    """Say above a table that is too wide what is the same in all of its rows; the other columns."""
    cells = [[cell(value) for value in column] for column in zip(*rows, strict=True)]
    same = [i for i, column in enumerate(cells) if len(rows) > 1 and len(set(column)) == 1]
    if told := [f"{columns[i]} {cells[i][0]}" for i in same if cells[i][0]]:
        say(console, "in all rows: " + ", ".join(told))
    kept = [i for i in range(len(columns)) if i not in same] or list(range(len(columns)))
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


def print_rows(columns: list[str], rows: list[tuple[Any, ...]], form: str | None) -> None:
    """To stdout; a table with the number of its rows."""
    write_rows(columns, rows, form, sys.stdout)
    if form is None:
        click.echo(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")
