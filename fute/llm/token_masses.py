"""Probabilities of labels from the log-probabilities of an answer's tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fute.llm.spelling import normal
from fute.llm.types import Answer, TokenLogprobs
from fute.types import Floats

LEAST = 1e-12
"""No label has less: zeros would be claims that no answer can support."""

MOST_POSITIONS = 64
"""Tokens of an answer that are looked at, blanks before a word included."""

MOST_CHARACTERS = 200
"""Of the beginning of an answer: no label's word is longer."""

MOST_REMEMBERED = 10_000
"""Beginnings of answers of which it is known what they begin."""

# How byte-level and SentencePiece vocabularies write a blank, where an endpoint passes tokens on raw.
_BLANKS = str.maketrans({"▁": " ", "Ġ": " ", "Ċ": "\n"})


@dataclass(frozen=True, eq=False)
class Masses:
    """What the labels have.

    Attributes:
        probabilities: (labels,) float32, sum 1.
        found: probability of all labels' words together, before it was made 1.
        generated: whether the generated tokens count for a label themselves, and not only what was returned beside.
    """

    probabilities: Floats
    found: float
    generated: bool


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
        # Twenty tokens come with each answer, and mostly the same ones.
        self._begun = lru_cache(MOST_REMEMBERED)(self._look)

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
        floor, generated_label = 0.0, None
        for position in positions[:MOST_POSITIONS]:
            generated, top = _returned(position)
            stays, chosen = self._begun(beginning).word, self._begun(beginning + generated)
            onward = 0.0  # what is not the pending label's
            for token, probability in top:
                begun = self._begun(beginning + token)
                if token == generated and chosen.is_open:
                    onward += probability  # the next position divides it
                    continue
                if pending is not None and (begun.word == stays or not begun.begins):
                    continue
                onward += probability
                if begun.label is not None:
                    found[begun.label] += reached * probability
            if pending is not None:
                found[pending] += reached * max(0.0, 1.0 - onward)
            probabilities = [probability for _, probability in top]
            rest = max(0.0, 1.0 - sum(probabilities)) / max(1, int((found == 0).sum()))
            # Rounding can leave no rest at all, and a zero would be exactly what must not come out.
            floor = reached * max(min(*probabilities, rest), LEAST)
            if not chosen.is_open:
                generated_label = chosen.label if pending is None or chosen.begins else pending
                pending = None
                break
            reached *= math.exp(position.logprob)
            beginning += generated
            pending = self._label_of.get(chosen.word)
        if pending is not None:
            found[pending] += reached  # the answer ended with it
            generated_label = pending
        total = float(found.sum())
        if total <= 0.0:
            return None
        masses = np.where(found == 0, floor, found)
        shares = np.maximum(masses / masses.sum(), LEAST)
        return Masses((shares / shares.sum()).astype(np.float32), total, generated_label is not None)

    def _look(self, text: str) -> _Begun:
        word = normal(text[:MOST_CHARACTERS])
        if word not in self._label_of:
            word = word.rstrip("-")
        labels = {label for longer, label in self._label_of.items() if longer.startswith(word)} if word else set()
        whole = self._label_of.get(word)
        if whole is not None:
            return _Begun(word, whole, True, len(labels) > 1)
        too_little = _is_too_little(word)
        label = next(iter(labels)) if len(labels) == 1 and not too_little else None
        return _Begun(word, label, bool(labels), not word or len(labels) > (0 if too_little else 1))


def _returned(position: TokenLogprobs) -> tuple[str, list[tuple[str, float]]]:
    """The generated token, and all that came back at its position, it included, with their probabilities."""
    generated = position.token.translate(_BLANKS)
    top = [(token.translate(_BLANKS), math.exp(logprob)) for token, logprob in position.top]
    if all(token != generated for token, _ in top):
        top.append((generated, math.exp(position.logprob)))
    return generated, top


class _Begun(NamedTuple):
    """What the beginning of an answer begins.

    Attributes:
        word: the beginning as words are compared.
        label: the one that it is a word of, or the only one that it begins words of.
        begins: a word of some label.
        is_open: the next token decides: more than one label is possible, or it is so little of a word that it may be
            the beginning of another.
    """

    word: str
    label: int | None
    begins: bool
    is_open: bool


def _is_too_little(begun: str) -> bool:
    """One letter: "A" begins "A good film" as well as "anger"."""
    return len(begun) < 2 and begun.isascii()
