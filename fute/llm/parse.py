"""Which label the text of an answer names, where there are no log-probabilities to go by."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from fute.llm.refusal import refuses
from fute.types import Floats

How = Literal["any", "exact", "first", "json"]

ANSWER_KEYS = ("answer", "label", "class", "sentiment", "result", "prediction")
"""Names under which a JSON object is expected to hold the answer, if it holds more than one word that could be it."""

MOST = 1e300  # JSON has whole numbers that no float can hold

_AROUND = " \t\r\n\"'`*_.,:;!?()[]{}<>#"
# How byte-level and SentencePiece vocabularies write a blank, where an endpoint passes tokens on raw.
_BLANKS = str.maketrans({"▁": " ", "Ġ": " ", "Ċ": " "})
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


def normal(text: str) -> str:
    """A word or an answer without what does not matter: case, blanks, quotes and punctuation around it."""
    return " ".join(text.translate(_BLANKS).casefold().split()).strip(_AROUND)


class TextParser:
    """Reads labels from texts.

    Args:
        label_of: normalised word -> label number.
        how: exact: the text is one of the words. first: the first whole word of the text that is one of them. json: an
            object in the text names the label, or gives each label a number. any: exact, else json, else first.
    """

    def __init__(self, label_of: Mapping[str, int], n_labels: int, how: How = "any") -> None:
        self._label_of = label_of
        self._n_labels = n_labels
        self._how = how
        # Longest first: of two words that begin at the same place the longer one is meant.
        alternatives = "|".join(re.escape(word) for word in sorted(label_of, key=len, reverse=True))
        self._anywhere = re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)")

    def read(self, text: str) -> Floats | Literal["refused"] | None:
        """(labels,) probabilities, almost always one-hot; "refused", or None for a text that names no label."""
        read = None
        if self._how in ("any", "exact"):
            read = self._one_hot(self._label_of.get(normal(text)))
        if read is None and self._how in ("any", "json"):
            read = self._from_json(text)
        if read is not None:
            return read
        # Before a word is looked for: "I can't say whether it is good" names a label and means none.
        if refuses(text):
            return "refused"
        if self._how in ("any", "first"):
            match = self._anywhere.search(normal(text))
            return None if match is None else self._one_hot(self._label_of[match.group()])
        return None

    def _from_json(self, text: str) -> Floats | None:
        match = _OBJECT.search(text)
        if match is None:
            return None
        try:
            found: Any = json.loads(match.group())
        except (RecursionError, ValueError):
            return None
        if not isinstance(found, dict):
            return None
        by_name = {normal(str(name)): value for name, value in found.items()}
        for name in ANSWER_KEYS:
            if name in by_name:
                return self._one_hot(self._label_of_value(by_name[name]))
        if (numbers := self._numbers(by_name)) is not None:
            return numbers
        labels = {label for value in by_name.values() if (label := self._label_of_value(value)) is not None}
        return self._one_hot(labels.pop()) if len(labels) == 1 else None

    def _numbers(self, by_name: Mapping[str, Any]) -> Floats | None:
        """{"good": 0.8, "bad": 0.2}: a number for every label, none below zero, not all zero."""
        values = np.zeros(self._n_labels)
        seen = set()
        for name, value in by_name.items():
            label = self._label_of.get(name)
            if label is None or isinstance(value, bool) or not isinstance(value, int | float):
                return None
            if not 0 <= value <= MOST:
                return None
            values[label] += value
            seen.add(label)
        total = values.sum()
        if len(seen) < self._n_labels or not total > 0:
            return None
        return (values / total).astype(np.float32)

    def _label_of_value(self, value: Any) -> int | None:
        # Yes and no in JSON's own words.
        word = {True: "true", False: "false"}[value] if isinstance(value, bool) else value
        return self._label_of.get(normal(word)) if isinstance(word, str) else None

    def _one_hot(self, label: int | None) -> Floats | None:
        if label is None:
            return None
        one_hot = np.zeros(self._n_labels, np.float32)
        one_hot[label] = 1.0
        return one_hot
