"""Labels of a few texts, given in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fute.terminal import printable
from tasks.labels_file import label_each


def label_here(path: Path, labels: Sequence[str]) -> bool:
    """Offer to ask for the labels of a file's texts; whether any was given. Without a terminal nothing is offered."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or not click.confirm("Label them here, now?", default=True):
        return False
    # Numbers stand for labels, unless a label is a number.
    keys = {} if any(name.isdecimal() for name in labels) else {str(i): name for i, name in enumerate(labels, 1)}
    offered = ", ".join(f"{key} {name}" for key, name in keys.items()) or ", ".join(labels)
    names = keys | {name.casefold(): name for name in labels}
    click.echo(printable(f"Labels: {offered}. Enter leaves a text out, Ctrl-D ends."))

    def ask(text: str, pair: str) -> str:
        click.echo(printable("\n" + text + (f"\n| {pair}" if pair else "")))
        while True:
            try:
                said = click.prompt("label", default="", show_default=False).strip()
            except click.Abort:
                raise EOFError from None
            if not said or said.casefold() in names:
                return names.get(said.casefold(), "")
            click.echo(printable(f"{said!r} is none of them: {offered}"))

    given = label_each(path, ask)
    click.echo("")
    return given > 0
