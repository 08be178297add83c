"""Rows as a table, JSON, CSV or Parquet. Cells are data: a terminal takes none of them for a command, and no markup."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import IO, Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

# What moves a terminal's cursor, changes its colours or turns the direction of writing; not ends of lines, and tabs.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def shown(value: object) -> str:
    """A value as a terminal may be given it."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), str(value))


def table_of(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Rows as a terminal shows them."""
    table = Table(*(Column(Text(shown(name))) for name in columns))
    for row in rows:
        table.add_row(*(Text(shown(cell(value))) for value in row))
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


def to_json(value: Any) -> str:
    """As JSON that every reader takes; NaN and infinities, which it does not have, are null."""
    return json.dumps(_plain(value), indent=2, default=str, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):  # a map of SQL may have any keys
        return {key if isinstance(key, str) else str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]], file: IO[str]) -> None:
    """Whole values; control characters too, but for a terminal."""
    if file.isatty():
        columns = [shown(name) for name in columns]
        rows = [[None if value is None else shown(value) for value in row] for row in rows]
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
        Console(file=file, width=None if file.isatty() else 200).print(table_of(columns, rows))
