"""Texts for a person to label, in a CSV file, and what the person wrote."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fute.data.normalise import normalise
from fute.errors import DataError
from fute.types import TextTable

COLUMNS = ("text", "text_pair", "label")


def ask_for_labels(path: Path, inputs: TextTable, wanted: int, worth: Callable[[int], list[int]]) -> dict[int, str]:
    """Row to label of those texts that have one in the file; texts are added to it until it has as many as wanted.

    Texts of the file that are not among the inputs stay there, and count for nothing.

    Args:
        worth: how many -> rows that are worth a label.

    Raises:
        DataError: the file is not one that was written here.
    """
    lines = _read(path) if path.is_file() else []
    pairs = inputs.pairs or [None] * len(inputs)
    keys = [(text, pair or "") for text, pair in zip(inputs.texts, pairs, strict=True)]
    # Normalised: a spreadsheet writes line ends of its own.
    rows = {(normalise(text), normalise(pair)): row for row, (text, pair) in reversed(list(enumerate(keys)))}
    there = {rows[key]: label for text, pair, label in lines if (key := (normalise(text), normalise(pair))) in rows}
    missing = wanted - len(there)
    if missing > 0:
        new = [row for row in worth(min(wanted + len(there), len(keys))) if row not in there][:missing]
        _write(path, [*lines, *((*keys[row], "") for row in new)])
    return {row: label for row, label in there.items() if label}


def label_each(path: Path, ask: Callable[[str, str], str]) -> int:
    """Ask for the label of each text of the file that has none, until asking raises EOFError; how many were given.

    Each is written before the next is asked for.

    Args:
        ask: text and second text (or empty) -> label; empty: leave it for later.
    """
    lines = _read(path)
    given = 0
    with suppress(EOFError):
        for i, (text, pair, label) in enumerate(lines):
            if not label and (label := ask(text, pair)):
                lines[i] = (text, pair, label)
                _write(path, lines)
                given += 1
    return given


def _read(path: Path) -> list[tuple[str, str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""))
        if reader.fieldnames is None or not set(COLUMNS) <= set(reader.fieldnames):
            raise DataError(
                f"{path} needs the columns {', '.join(COLUMNS)}, with commas between; move it away to begin anew"
            )
        text, pair, label = COLUMNS
        return [(line[text] or "", line[pair] or "", (line[label] or "").strip()) for line in reader]
    except UnicodeDecodeError as exc:
        raise DataError(f"{path} is not in UTF-8; save it so, or move it away to begin anew") from exc


def _write(path: Path, lines: list[tuple[str, str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(lines)
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(text.getvalue().encode("utf-8"))
    temporary.replace(path)
