"""What commands print: every text as it is, never as markup, and never obeyed by the terminal."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fute.terminal import printable


def plain(value: object) -> Text:
    return Text(printable(value))


def say(console: Console, line: object = "") -> None:
    """One line, or some; a terminal wraps them, so that a path can be copied whole."""
    console.print(plain(line), soft_wrap=True)


class PlainTable(Table):
    """A table whose title, headers and cells are shown as they are."""

    def __init__(self, *headers: str, title: str | None = None) -> None:
        super().__init__(title=None if title is None else Text(printable(title), style="table.title"))
        for header in headers:
            self.add_column(plain(header))

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*map(plain, cells), **options)


def number(value: float | None, digits: int = 3) -> str:
    """A cell; empty where the number is not known."""
    return "" if value is None else f"{value:.{digits}f}"


def console() -> Console:
    """Stdout as a terminal shows it; into a pipe or file, lines are not cut at 80 columns."""
    return Console() if sys.stdout.isatty() else Console(width=200)


class PlainFormatter(logging.Formatter):
    """Lines that may quote a server or a label."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def show_progress() -> None:
    """The flows' own lines, on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # read when it is imported, which may be later
    for name in ("flows", "tasks", "fute", "storage"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
