"""From answer words to label probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fute.errors import ConfigError
from fute.llm.parse import How, TextParser, normal
from fute.llm.thinking import after_thinking
from fute.llm.types import SCORED, TOO_LONG, Answer, TokenLogprobs
from fute.types import Floats

Source = Literal["logprobs", "text", "samples", "refused", "too long", "empty", "unparsable"]

READING_VERSION = 3
"""Part of every prompted model's identity; raise it when the same answer would be read differently."""

MIN_MASS = 0.1
"""Log-probabilities decide if the labels' words have this much probability together; else the text is read first."""

CLEAR_MASS = 0.5
"""With less than this they do not decide against a text that names another label: most answers began otherwise."""

LEAST = 1e-12
"""No label has less: zeros would be claims that no answer can support."""

MOST_REMEMBERED = 10_000
"""Beginnings of answers of which it is known which label they begin."""
_NOT_SEEN = -1


@dataclass(frozen=True, eq=False)
class Reading:
    """What was made of one answer.

    Attributes:
        probabilities: (labels,) float32, sum 1; None where there is no usable answer.
        source: what they were read from, or why there are none.
    """

    probabilities: Floats | None
    source: Source


def why_declined(answer: Answer) -> Literal["refused", "too long"]:
    return "too long" if answer.finish_reason == TOO_LONG else "refused"


class Verbalizer:
    """Which answer words stand for which label.

    Args:
        words: label to its words, for instance {"positive": ["positive", "good"]}. Case, blanks and punctuation
            around a word do not matter.
        parse: how a text is read where there are no log-probabilities to go by, see fute.llm.parse.

    Raises:
        ConfigError: fewer than two labels, a label without words, or a word that stands for two labels.
    """

    def __init__(self, words: Mapping[str, Sequence[str]], name: str = "prompt", *, parse: How = "any") -> None:
        if len(words) < 2:
            raise ConfigError(f"prompt {name}: its verbalizer has {len(words)} labels; give two or more")
        self.label_names = tuple(words)
        self.words = tuple(dict.fromkeys(spelling for spellings in words.values() for spelling in spellings))
        self._label_of: dict[str, int] = {}
        for label, spellings in enumerate(words.values()):
            if not spellings:
                raise ConfigError(f"prompt {name}: label {self.label_names[label]!r} has no answer words; give one")
            for spelling in spellings:
                word = normal(spelling)
                if not word:
                    raise ConfigError(f"prompt {name}: {spelling!r} is no answer word; give letters or digits")
                other = self._label_of.setdefault(word, label)
                if other != label:
                    raise ConfigError(
                        f"prompt {name}: the word {spelling!r} stands for {self.label_names[other]!r} and for "
                        f"{self.label_names[label]!r}; give each word to one label"
                    )
        self._parser = TextParser(self._label_of, len(self.label_names), parse)
        self._begun: dict[str, int | None] = {}

    def read(self, answer: Answer) -> Reading:
        """Log-probabilities where they speak of the labels, else the text, else what little they say."""
        if answer.refused:
            return Reading(None, why_declined(answer))
        if answer.finish_reason == SCORED and answer.logprobs:
            # Each word was asked about, so that even a small probability is exactly what it is.
            masses = self._masses(answer.logprobs)
            return Reading(None, "unparsable") if masses is None else Reading(masses.probabilities, "logprobs")
        answer = after_thinking(answer)
        masses = self._masses(answer.logprobs) if answer.logprobs else None
        if masses is not None and masses.found >= CLEAR_MASS:
            return Reading(masses.probabilities, "logprobs")
        from_text = self._parser.read(answer.text)
        if masses is not None and masses.found >= MIN_MASS and not _says_otherwise(from_text, masses):
            return Reading(masses.probabilities, "logprobs")
        if isinstance(from_text, str):
            return Reading(None, "refused")
        if from_text is not None:
            return Reading(from_text, "text")
        if masses is not None:
            return Reading(masses.probabilities, "logprobs")
        return Reading(None, "empty" if answer.empty else "unparsable")

    def read_samples(self, answers: Sequence[Answer]) -> Reading:
        """Several answers to one question: the labels' shares of those that could be read.

        Read as texts, each one answer. One more is added, divided evenly between the labels, so that a label that was
        never drawn is improbable and not impossible.
        """
        read = [self._read_text(answer) for answer in answers]
        drawn = [reading.probabilities for reading in read if reading.probabilities is not None]
        if not drawn:
            # Why most of them could not be read.
            reasons = [reading.source for reading in read]
            return Reading(None, max(reasons, key=reasons.count))
        shares = (np.sum(drawn, axis=0) + 1.0 / len(self.label_names)) / (len(drawn) + 1.0)
        return Reading(shares.astype(np.float32), "samples")

    def _read_text(self, answer: Answer) -> Reading:
        return self.read(replace(answer, logprobs=None))

    def _masses(self, positions: Sequence[TokenLogprobs]) -> _Masses | None:
        """Probability of each label's words, read along the generated answer.

        A token counts for a label if what was generated so far and the token together are one of its words or begin
        words of that label only. While the generated answer is blank, or begins words of several labels ("very" of
        "very good" and "very bad"), the next position decides, given that beginning.

        A label of which nothing was returned is not impossible: it gets the smallest probability returned, or its
        share of what was not returned, whichever is less.
        """
        found = np.zeros(len(self.label_names))
        reached = 1.0  # probability of the generated beginning
        beginning = ""
        floor = 0.0
        for position in positions:
            probabilities = [math.exp(logprob) for _, logprob in position.top]
            goes_on = self._is_open(beginning + position.token)
            for (token, _), probability in zip(position.top, probabilities, strict=True):
                label = self._label_begun(beginning + token)
                if label is not None:
                    found[label] += reached * probability
            missing = int((found == 0).sum())
            rest = max(0.0, 1.0 - sum(probabilities)) / max(1, missing)
            # Rounding can leave no rest at all, and a zero would be exactly what must not come out.
            floor = reached * max(min(min(probabilities), rest), LEAST)
            if not goes_on:
                break
            reached *= math.exp(position.logprob)
            beginning += position.token
        total = float(found.sum())
        if total <= 0.0:
            return None
        masses = np.where(found == 0, floor, found)
        shares = np.maximum(masses / masses.sum(), LEAST)
        return _Masses((shares / shares.sum()).astype(np.float32), total)

    def _label_begun(self, text: str) -> int | None:
        # Twenty tokens come with each answer, and mostly the same ones. Many threads read: one look, no second one.
        label = self._begun.get(text, _NOT_SEEN)
        if label == _NOT_SEEN:
            if len(self._begun) >= MOST_REMEMBERED:
                self._begun.clear()
            label = self._begun[text] = self._find_label_begun(text)
        return label

    def _find_label_begun(self, text: str) -> int | None:
        begun = normal(text)
        if begun in self._label_of:
            return self._label_of[begun]
        if _is_too_little(begun):
            return None
        labels = self._labels_beginning_with(begun)
        return labels.pop() if len(labels) == 1 else None

    def _is_open(self, text: str) -> bool:
        """Whether the next token decides: the generated text leaves more than one label possible, or has so little of a
        word that it may be the beginning of another."""
        begun = normal(text)
        if not begun or begun in self._label_of:
            return not begun
        return len(self._labels_beginning_with(begun)) > (0 if _is_too_little(begun) else 1)

    def _labels_beginning_with(self, begun: str) -> set[int]:
        return {label for word, label in self._label_of.items() if word.startswith(begun)}


@dataclass(frozen=True, eq=False)
class _Masses:
    probabilities: Floats
    found: float  # probability of all labels' words together, before floors


def _is_too_little(begun: str) -> bool:
    """One letter: "A" begins "A good film" as well as "anger"."""
    return len(begun) < 2 and begun.isascii()


def _says_otherwise(from_text: Floats | str | None, masses: _Masses) -> bool:
    """Whether the text names another label than the one that is the most probable."""
    return not isinstance(from_text, str | None) and bool(from_text.argmax() != masses.probabilities.argmax())
