"""Probabilities of labels from the log-probabilities of an answer's tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fute.llm.spelling import normal
from fute.llm.types import Answer, TokenLogprobs
from fute.types import Floats

LEAST = 1e-12
"""No label has less: zeros would be claims that no answer can support."""

MOST_POSITIONS = 64
"""Tokens of an answer that are looked at, blanks before a word included."""

MOST_REMEMBERED = 10_000
"""Beginnings of answers of which it is known which label they begin."""
_NOT_SEEN = -1

# How byte-level and SentencePiece vocabularies write a blank, where an endpoint passes tokens on raw.
_BLANKS = str.maketrans({"▁": " ", "Ġ": " ", "Ċ": "\n"})


@dataclass(frozen=True, eq=False)
class Masses:
    """Attributes:
    probabilities: (labels,) float32, sum 1.
    found: probability of all labels' words together, before it was made 1.
    """

    probabilities: Floats
    found: float


def positions_of_text(answer: Answer) -> Sequence[TokenLogprobs]:
    """The positions whose tokens spell the text; none where they spell something else.

    Servers give the tokens of reasoning as well, which stand before those of the text, and marks of the end behind.
    """
    positions = answer.logprobs or ()
    tokens = [position.token.translate(_BLANKS) for position in positions]
    text, spelled = answer.text.strip(), "".join(tokens).strip()
    if not text or not spelled:
        return ()
    if text.startswith(spelled):
        return positions
    while tokens and _is_mark(tokens[-1]):
        tokens.pop()
    spelled = "".join(tokens).rstrip()
    begin, reached = len(spelled) - len(text), 0
    if not spelled.endswith(text):
        return ()
    for number, token in enumerate(tokens):
        if reached + len(token) > begin:
            return positions[number:] if not token[: max(0, begin - reached)].strip() else ()
        reached += len(token)
    return ()


def _is_mark(token: str) -> bool:
    token = token.strip()
    return not token or (token[0] in "<[" and token[-1] in ">]")


class TokenReader:
    """
    Args:
        label_of: normalised word -> label number.
    """

    def __init__(self, label_of: Mapping[str, int], n_labels: int) -> None:
        self._label_of = label_of
        self._n_labels = n_labels
        self._begun: dict[str, int | None] = {}

    def read(self, positions: Sequence[TokenLogprobs]) -> Masses | None:
        """Probability of each label's words, read along the generated answer.

        A token counts for a label if what was generated so far and the token together are one of its words or begin
        words of that label only. The next position decides, given that beginning, while the generated answer is blank,
        or begins words of several labels ("very" of "very good" and "very bad"), or is a word that begins another
        label's ("1" of "10"): of such a word's probability that label has what the longer words do not take.

        A label of which nothing was returned is not impossible: it gets the smallest probability returned, or its
        share of what was not returned, whichever is less.
        """
        found = np.zeros(self._n_labels)
        reached = 1.0  # probability of the generated beginning
        beginning = ""
        pending: int | None = None  # label of the word that was generated so far, while it may go on
        floor = 0.0
        for position in positions[:MOST_POSITIONS]:
            top = [(token.translate(_BLANKS), math.exp(logprob)) for token, logprob in position.top]
            generated = position.token.translate(_BLANKS)
            if all(token != generated for token, _ in top):
                top.append((generated, math.exp(position.logprob)))
            goes_on = self._is_open(beginning + generated)
            onward = 0.0  # what is not the pending label's
            for token, probability in top:
                begun = beginning + token
                if token == generated and goes_on:
                    onward += probability  # the next position divides it
                    continue
                if pending is not None and not self._goes_on_from(beginning, begun):
                    continue
                onward += probability
                label = self._label_begun(begun)
                if label is not None:
                    found[label] += reached * probability
            if pending is not None:
                found[pending] += reached * max(0.0, 1.0 - onward)
            missing = int((found == 0).sum())
            probabilities = [probability for _, probability in top]
            rest = max(0.0, 1.0 - sum(probabilities)) / max(1, missing)
            # Rounding can leave no rest at all, and a zero would be exactly what must not come out.
            floor = reached * max(min(min(probabilities), rest), LEAST)
            if not goes_on:
                pending = None
                break
            reached *= math.exp(position.logprob)
            beginning += generated
            pending = self._label_of.get(normal(beginning))
        if pending is not None:
            found[pending] += reached  # the answer ended with it
        total = float(found.sum())
        if total <= 0.0:
            return None
        masses = np.where(found == 0, floor, found)
        shares = np.maximum(masses / masses.sum(), LEAST)
        return Masses((shares / shares.sum()).astype(np.float32), total)

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
        labels = {self._label_of[word] for word in self._words_from(begun)}
        return labels.pop() if len(labels) == 1 else None

    def _is_open(self, text: str) -> bool:
        """Whether the next token decides: the generated text leaves more than one label possible, or has so little of a
        word that it may be the beginning of another."""
        begun = normal(text)
        if not begun:
            return True
        labels = {self._label_of[word] for word in self._words_from(begun)}
        if begun in self._label_of:
            return len(labels) > 1
        return len(labels) > (0 if _is_too_little(begun) else 1)

    def _goes_on_from(self, beginning: str, text: str) -> bool:
        """Whether a text is more of a longer word than its beginning."""
        begun = normal(text)
        return begun != normal(beginning) and bool(self._words_from(begun))

    def _words_from(self, begun: str) -> list[str]:
        begun = begun if begun in self._label_of else begun.rstrip("-")
        return [word for word in self._label_of if word.startswith(begun)]


def _is_too_little(begun: str) -> bool:
    """One letter: "A" begins "A good film" as well as "anger"."""
    return len(begun) < 2 and begun.isascii()
