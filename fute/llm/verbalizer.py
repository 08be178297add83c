"""From answer words to label probabilities."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fute.errors import ConfigError
from fute.llm.parse import How, TextParser
from fute.llm.spelling import normal
from fute.llm.token_masses import TokenReader, positions_of_text
from fute.llm.types import SCORED, TOO_LONG, Answer
from fute.types import Floats

Source = Literal["logprobs", "text", "samples", "refused", "too long", "empty", "unparsable"]

READING_VERSION = 5
"""Part of every prompted model's identity; raise it when the same answer would be read differently."""

MIN_MASS = 0.1
"""Log-probabilities say how sure the label of a text is if the labels' words have this much probability together."""


# Vendors differ in brackets and words: <think>, [THINK], ◁think▷, <|begin_of_thought|>, <seed:think>.
# Of channels, the final one ends what stood before; servers that drop special tokens leave their names.
_MARK = re.compile(
    r"[<\[◁](?P<closes>/)?(?P<of>[^<>\[\]◁▷\n]{0,12}?)(?:think|thought|reason|reflect|analy[sz]|scratchpad|rationale)"
    r"[^<>\[\]◁▷\n]{0,12}[>\]▷]"
    r"|(?P<final><\|channel\|>\s*final\s*<\|message\|>|assistantfinal)"
    r"|(?P<channel><\|channel\|>\s*\w+\s*<\|message\|>|\A\s*analysis(?=[A-Z]))",
    re.IGNORECASE,
)
_ENDS = re.compile(r"/|end", re.IGNORECASE)


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
        n_labels = len(self.label_names)
        self._parser = TextParser(self._label_of, n_labels, parse)
        # What log-probabilities are compared with, whatever `parse` says about texts without them.
        self._any = self._parser if parse == "any" else TextParser(self._label_of, n_labels)
        self._tokens = TokenReader(self._label_of, n_labels)

    def read(self, answer: Answer) -> Reading:
        """The label that the text says, and how sure it is from the log-probabilities where they spell the text and
        find that label the most probable, too. What was generated is never overruled by them. Where the text names no
        label at all, they say which label's words it would rather have begun with."""
        if answer.refused:
            return Reading(None, why_declined(answer))
        if answer.finish_reason == SCORED and answer.logprobs:
            # Each word was asked about, so that even a small probability is exactly what it is.
            masses = self._tokens.read(answer.logprobs)
            return Reading(None, "unparsable") if masses is None else Reading(masses.probabilities, "logprobs")
        answer = after_thinking(answer)
        cut = answer.finish_reason == "length"
        if (positions := positions_of_text(answer)) and (masses := self._tokens.read(positions)) is not None:
            said = self._any.read(answer.text, cut=cut)
            if isinstance(said, np.ndarray):
                usable = masses.found >= MIN_MASS and bool(said.argmax() == masses.probabilities.argmax())
            else:
                usable = not (said or cut or masses.generated or self._any.names_a_label(answer.text))
            if usable:
                return Reading(masses.probabilities, "logprobs")
        from_text = self._parser.read(answer.text, cut=cut)
        if isinstance(from_text, str):
            return Reading(None, "refused")
        if from_text is not None:
            return Reading(from_text, "text")
        return Reading(None, "empty" if not answer.text.strip() else "unparsable")

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


def after_thinking(answer: Answer) -> Answer:
    """The answer with the text behind its thinking. Its log-probabilities stay those of all tokens.

    Thinking that was cut off by the token limit leaves nothing, so that no word in it is taken for the answer.
    """
    text = answer.text
    begin, open_at = 0, None
    for mark in _MARK.finditer(text):
        # Some chat templates write the opening mark themselves, so that only the closing one comes back.
        if mark["final"] or mark["closes"] or (mark["of"] and _ENDS.search(mark["of"])):
            begin, open_at = mark.end(), None
        elif open_at is None:
            open_at = mark.start()
    if begin == 0 and open_at is None:
        return answer
    return replace(answer, text=text[begin:open_at])
