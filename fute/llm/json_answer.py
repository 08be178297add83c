"""The label that a JSON object within an answer names, or the numbers that it gives to the labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fute.llm.spelling import normal
from fute.types import Floats

ANSWER_KEYS = ("answer", "label", "class", "category", "sentiment", "result", "prediction", "verdict", "choice")
"""Names, or last words of names, under which an object is expected to hold the answer, if it holds more than one value
that could be it."""

MOST_OBJECTS = 8
"""Braces at which an object is looked for."""

MOST = 1e300  # JSON has whole numbers that no float can hold

ReadValue = Callable[[str], Floats | None]


def objects(text: str) -> Iterator[dict[str, Any]]:
    """The first objects of a text, whatever stands around them; at few braces, so that the work is bounded."""
    decoder = json.JSONDecoder()
    begin = text.find("{")
    for _ in range(MOST_OBJECTS):
        if begin < 0:
            return
        end = begin + 1
        try:
            found, end = decoder.raw_decode(text, begin)
            if isinstance(found, dict):
                yield found
        except (RecursionError, ValueError):
            pass
        begin = text.find("{", end)


def read_object(found: Mapping[str, Any], label_of: Mapping[str, int], n_labels: int, read: ReadValue) -> Floats | None:
    """(labels,) probabilities, or None where it names no label or several.

    Args:
        label_of: normalised word -> label number.
        read: (labels,) for a value that is text.
    """
    by_name = {normal(str(name)): value for name, value in found.items()}
    answers = [value for name, value in by_name.items() if name.split(" ")[-1:][0] in ANSWER_KEYS]
    if answers:
        return _one_of(answers, read)
    numbers = _numbers(by_name, label_of, n_labels)
    return _one_of(list(by_name.values()), read) if numbers is None else numbers


def _one_of(values: list[Any], read: ReadValue) -> Floats | None:
    """What the values that can be read say, if all say the same."""
    readings = [reading for value in values if (reading := read(_as_text(value))) is not None]
    labels = {int(reading.argmax()) for reading in readings}
    return readings[0] if len(labels) == 1 else None


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"  # yes and no in JSON's own words
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int) else ""


def _numbers(by_name: Mapping[str, Any], label_of: Mapping[str, int], n_labels: int) -> Floats | None:
    """{"good": 0.8, "bad": 0.2}: a number for every label, none below zero, not all zero; or one of them is true."""
    values = np.zeros(n_labels)
    seen = set()
    for name, value in by_name.items():
        label = label_of.get(name)
        if label is None or not isinstance(value, int | float) or not 0 <= value <= MOST:
            return None
        values[label] += value
        seen.add(label)
    total = values.sum()
    if len(seen) < n_labels or not total > 0:
        return None
    return (values / total).astype(np.float32)
