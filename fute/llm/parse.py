"""Which label the text of an answer names, where there are no log-probabilities to go by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from fute.llm.json_answer import objects, read_object
from fute.llm.mentions import Mention, MentionFinder
from fute.llm.spelling import looked_at, normal
from fute.types import Floats

How = Literal["any", "exact", "first", "json"]

GUESSED = 0.9
"""Probability of a label that was not said to be the answer, but is the only one that the text names, or the only one
left when the other is denied; the rest is divided between the others. A label that is the whole answer, or is said to
be the answer, has 1."""

_SENTENCE_ENDS = ".!?\n。।"

_SORRY = (
    r"(?:i(?:['’]m| am) (?:very |really |so )?(?:sorry|afraid)|sorry"
    r"|i (?:do )?apologi[sz]e|my apologies|unfortunately)"
)
_UNABLE = (
    r"(?:i(?:['’]m| am) (?:not able|unable|not allowed|not permitted|not comfortable|not going)\b"
    r"|i (?:can(?:no|['’])t|can not|cannot|won['’]t|will not|must decline|decline|refuse)\b)"
)
# Not every "I can't": people write so about films too ("I can't help but love it").
_HELP = (
    r"(?:help(?: you)?(?: with\b|[.!]|$)|assist\b|comply\b|provide\b|engage (?:in|with)\b|fulfill? (?:this|that|your)\b"
    r"|(?:answer|do|process|discuss|analy[sz]e|rate|judge|generate|create|write) (?:this|that|such)\b)"
)
_FLAGGED = r"this (?:request|content|prompt) (?:violates|goes against|was flagged)"
_REFUSAL = re.compile(
    r"as an ai\b|as a (?:large )?language model\b"
    rf"|{_SORRY}[^.!?\n]{{0,40}}?{_UNABLE}|{_UNABLE}[^.!?\n]{{0,30}}?{_HELP}|{_FLAGGED}",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """Whether a text begins as refusals do: an apology with an inability, "I can't help with", "As an AI".

    Only the beginning counts: a text that is quoted or summarised may speak of such things later on.
    """
    return _REFUSAL.match(text.strip().lstrip("\"'*_ ")) is not None


class TextParser:
    """Reads labels from texts.

    Args:
        label_of: normalised word -> label number.
        how: exact: the text is one of the words. first: the first whole word of the text that is one of them. json: an
            object in the text names the label, or gives each label a number. any: exact, else json, else the place of
            the text that says what the answer is, else the only label that it names.
    """

    def __init__(self, label_of: Mapping[str, int], n_labels: int, how: How = "any") -> None:
        self._label_of = label_of
        self._n_labels = n_labels
        self._how = how
        self._finder = MentionFinder(label_of, n_labels)

    def read(self, text: str, *, cut: bool = False) -> Floats | Literal["refused"] | None:
        """(labels,) probabilities, almost always one-hot; "refused", or None for a text that names no label.

        Args:
            cut: the token limit ended it, so that its last word may be the beginning of a longer one, and what it
                names without saying that it is the answer may be thoughts on the way there.
        """
        text = looked_at(text)
        if self._how in ("any", "exact", "first") and (whole := self._whole(text, cut)) is not None:
            return self._certain(whole)
        if self._how in ("any", "json"):
            readings = [reading for found in objects(text) if (reading := self._from_object(found)) is not None]
            if readings:
                return readings[0] if len({int(reading.argmax()) for reading in readings}) == 1 else None
        # Before a word is looked for: "I can't say whether it is good" names a label and means none.
        if refuses(text):
            return "refused"
        if self._how == "any":
            return self._from_mentions(text, cut)
        if self._how == "first":
            labels = [mention.label for mention in self._finder.find(text)[1] if mention.label is not None]
            return self._guessed(labels[0]) if labels else None
        return None

    def names_a_label(self, text: str) -> bool:
        """Whether a label's word stands in the text, however it is meant."""
        return bool(self._finder.find(looked_at(text))[1])

    def _whole(self, text: str, cut: bool) -> int | None:
        word = normal(text)
        label = self._label_of.get(word)
        return None if label is None or (cut and self._goes_on(word)) else label

    def _goes_on(self, word: str) -> bool:
        """Whether a word of another label begins with it."""
        return any(other != word and other.startswith(word) for other in self._label_of)

    def _from_object(self, found: Mapping[str, object]) -> Floats | None:
        return read_object(found, self._label_of, self._n_labels, self._from_value)

    def _from_value(self, text: str) -> Floats | None:
        whole = self._whole(text, cut=False)
        return self._from_mentions(looked_at(text), cut=False) if whole is None else self._certain(whole)

    def _from_mentions(self, text: str, cut: bool) -> Floats | None:
        text, mentions = self._finder.find(text)
        meant = [mention for mention in mentions if mention.label is not None]
        if cut:
            meant = [mention for mention in meant if self._is_complete(text, mention)]
        if stated := _stated(text, meant):
            if (label := _only(stated)) is None:
                return None
            same = [mention for mention in meant if mention.label == label and mention.is_stated]
            sure = any(mention.sure and not (cut and text[mention.end :].strip() == "") for mention in same)
            return self._certain(label) if sure else self._guessed(label)
        if cut or (label := _only(meant)) is None:
            return None
        # "Neither good nor bad": the other half of what is denied leaves nothing.
        for mention in mentions:
            if mention.label is None and mention.word == label and not _apart(text, mention, meant):
                return None
        return self._guessed(label)

    def _is_complete(self, text: str, mention: Mention) -> bool:
        """Whether a mention in a text that was cut off was said to be the answer, or in a sentence that has its end."""
        rest = text[mention.end :].lstrip(" \t")
        if not rest and self._goes_on(normal(text[mention.begin : mention.end])):
            return False
        return mention.said or mention.line or rest[:1] in ("", *_SENTENCE_ENDS)

    def _certain(self, label: int) -> Floats:
        one_hot = np.zeros(self._n_labels, np.float32)
        one_hot[label] = 1.0
        return one_hot

    def _guessed(self, label: int) -> Floats:
        rest = (1.0 - GUESSED) / (self._n_labels - 1)
        values = np.full(self._n_labels, rest, np.float32)
        values[label] = GUESSED
        return values


def _stated(text: str, mentions: Sequence[Mention]) -> list[Mention]:
    """The mentions that say what the answer is, of the clearest kind that there is: the first line is one, with nothing
    but a final answer to the contrary; "the answer is ..."; a line or a clause of its own; the end of "it is ..."."""
    lines = [mention for mention in mentions if mention.line]
    said = [mention for mention in mentions if mention.said]
    if lines and not any(character.isalnum() for character in text[: lines[0].begin]):
        # What a model without an end goes on with, "Text: ... Label: ...", is no second answer.
        return lines[:1] + [mention for mention in lines[1:] if mention.label != lines[0].label]
    kinds = (said, lines, [m for m in mentions if m.alone], [m for m in mentions if m.states])
    return next((kind for kind in kinds if kind), [])


def _only(mentions: Iterable[Mention]) -> int | None:
    labels = {mention.label for mention in mentions}
    return labels.pop() if len(labels) == 1 else None


def _apart(text: str, one: Mention, others: Sequence[Mention]) -> bool:
    """Whether a sentence ends between a mention and each of the others."""
    between = (text[min(one.end, other.end) : max(one.begin, other.begin)] for other in others)
    return all(any(end in part for end in _SENTENCE_ENDS) for part in between)
