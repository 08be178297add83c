"""The demo endpoint's answerer: a sentence encoder that reads prompts. It is no language model.

It finds in a prompt the options that are offered, the question, and the text (or two texts), embeds them with
all-MiniLM-L6-v2, and turns cosine similarities into probabilities of the options:

    one text     how much nearer the text is to each option, written out as a sentence about a text
    two texts    how alike the two are, for options such as yes/no or same/different

It writes nothing but one of the options, follows no other instruction, and says nothing about the quality of real
language models. What it is good for: a demo and tests in which answers depend on the text and on the prompt's
wording, as those of a real model do, with nothing to download and no key.
"""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fute.config import SurrogateConfig
from fute.types import Floats, TextTable

MODEL_NAME = "fute-standin-minilm"
TEMPERATURE = 0.05  # of cosines between a text and an option; measured: neither always sure nor always undecided
ALIKE_ABOVE = 0.7  # cosine at which two texts count as alike with probability one half
ALIKE_WIDTH = 0.1
CACHED_TEXTS = 4096

Embed = Callable[[str], Floats]
"""A text -> its unit vector (width,)."""

_FIELD = re.compile(
    r"^[ \t]*(?P<name>second text|text ?[12ab]?|review|sentence ?[12ab]?|message|premise|hypothesis|question ?[12ab]?"
    r"|passage|context|headline|headlines|statement|first text|first|second)[ \t]*:[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
# A line that goes on with the instruction, after a text of one or more lines.
_INSTRUCTION = re.compile(
    r"\n\s*(?=(?:options|labels?|choices|categor(?:y|ies)|answer|choose|pick|reply|respond|sentiment|topic|is|are|does|do"
    r"|which|what|how|give|say)\b)",
    re.IGNORECASE,
)
_LIST = re.compile(
    r"(?:options|labels|choices|categories|answer with one of|answer with|one of|choose from|choose|answer|reply with)"
    r"(?: these| the following)?(?: words| options)?[ \t]*:?[ \t]+(?P<list>[^.?!\n:]+)",
    re.IGNORECASE,
)
# Looked for at every place, as one may begin within another: "read the text, then say positive or negative".
_ENUMERATION = re.compile(
    r"\b(?=(?P<list>[\w-]+(?:, ?[\w -]+)*,? or [\w-]+(?: [\w-]+)?)[ \t]*(?:[?.:\n]|$))", re.IGNORECASE
)
_SEPARATOR = re.compile(r"\s*(?:,|/|;|\bor\b|\band\b)\s*", re.IGNORECASE)
_QUOTES = " \"'`*()"
_FILLERS = re.compile(r"^(?:either|the word|the words|only|just|a|an|the|is it|it|is|with|one of)\s+", re.IGNORECASE)

_ALIKE = frozenset({"yes", "same", "true", "duplicate", "similar", "equivalent", "paraphrase", "entailment", "related"})
_UNLIKE = frozenset({"no", "different", "false", "distinct", "unrelated", "contradiction", "not duplicate"})
_ASKS_WHETHER_UNLIKE = re.compile(r"\b(differ|different|unrelated|contradict|distinct|disagree)", re.IGNORECASE)


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt taken apart: the instruction without texts, the options offered in it, one or two texts."""

    question: str
    options: tuple[str, ...]
    texts: tuple[str, ...]


def read_prompt(prompt: str) -> ReadPrompt:
    """Take a prompt apart.

    A text stands after "Text:", "Review:", "Premise:" and the like, up to the next such name or a line that begins
    like an instruction. Options stand in the rest, after "Options:" and the like, or as "a, b or c".
    """
    fields = list(_FIELD.finditer(prompt))
    texts: list[str] = []
    rest = [prompt[: fields[0].start()] if fields else prompt]
    ends = [*(field.start() for field in fields[1:]), len(prompt)]
    for field, end in zip(fields, ends, strict=False):  # without fields there is one end and no text
        block = prompt[field.end() : end]
        text, *instruction = _INSTRUCTION.split(block, maxsplit=1)
        texts.append(text.strip().strip('"'))
        rest += instruction
    question = "\n".join(part.strip() for part in rest if part.strip())
    return ReadPrompt(question, _options(question), tuple(text for text in texts if text)[:2])


def _options(question: str) -> tuple[str, ...]:
    # A clause with an "or" in it is no list of options: those are a word or two each, three in a list that says so.
    for pattern, longest in ((_LIST, 3), (_ENUMERATION, 2)):
        for match in pattern.finditer(question):
            parts = _SEPARATOR.split(match.group("list"))
            words = [_FILLERS.sub("", part.strip(_QUOTES)).strip(_QUOTES) for part in parts]
            options = tuple(dict.fromkeys(word for word in words if word))
            if len(options) >= 2 and all(len(option.split()) <= longest for option in options):
                return options
    return ()


class StandIn:
    """Answers prompts by similarity. One text is embedded at a time, so that an answer never depends on what else is
    being asked: batches of other sizes round differently, and answers are to be the same bit for bit."""

    def __init__(self, embed: Embed | None = None) -> None:
        self._embed_now = embed or _minilm()
        self._lock = threading.Lock()
        self._vectors: OrderedDict[str, Floats] = OrderedDict()

    def __call__(self, prompt: str, system: str | None = None) -> list[tuple[str, float]]:
        """(option, probability), most probable first; [("unclear", 1)] for a prompt without options or text."""
        read = read_prompt(prompt)
        options = read.options or _options(system or "")
        if not options or not read.texts:
            return [("unclear", 1.0)]
        if len(read.texts) == 2 and (signs := _likeness_of(options, read.question)):
            probabilities = self._by_likeness(read.texts[0], read.texts[1], signs)
        else:
            probabilities = self._by_nearness(" ".join(read.texts), options, read.question)
        return sorted(zip(options, probabilities, strict=True), key=lambda pair: -pair[1])

    def _by_likeness(self, first: str, second: str, signs: Sequence[int]) -> list[float]:
        logit = (float(self._embed(first) @ self._embed(second)) - ALIKE_ABOVE) / ALIKE_WIDTH
        # An option for neither lies between the two and is most probable where they are undecided.
        return _softmax([sign * logit / 2 for sign in signs])

    def _by_nearness(self, text: str, options: Sequence[str], question: str) -> list[float]:
        vector = self._embed(text)
        cosines = []
        for option in options:
            # Once by itself and once as the answer to the prompt's own question: so the wording counts.
            about = self._embed(f"This text is about {option}.")
            asked = self._embed(f"{question} {option}")
            cosines.append(float(vector @ (about + asked)) / 2)
        return _softmax([cosine / TEMPERATURE for cosine in cosines])

    def _embed(self, text: str) -> Floats:
        with self._lock:
            vector = self._vectors.get(text)
            if vector is None:
                vector = self._vectors[text] = self._embed_now(text)
                if len(self._vectors) > CACHED_TEXTS:
                    self._vectors.popitem(last=False)
            self._vectors.move_to_end(text)
            return vector


def _likeness_of(options: Sequence[str], question: str) -> list[int] | None:
    """For each option 1 (the texts are alike), -1 (they are not) or 0 (neither); None where that is not the matter."""
    signs = [1 if o.casefold() in _ALIKE else -1 if o.casefold() in _UNLIKE else 0 for o in options]
    if 1 not in signs and -1 not in signs:
        return None
    says_yes = {"yes", "true", "no", "false"} & {option.casefold() for option in options}
    return [-sign for sign in signs] if says_yes and _ASKS_WHETHER_UNLIKE.search(question) else signs


def _softmax(logits: Sequence[float]) -> list[float]:
    highest = max(logits)
    weights = [math.exp(logit - highest) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def _minilm() -> Embed:
    # Here, since they take seconds to import, and an endpoint with another answerer needs neither.
    from fute.surrogate.features import compute_features
    from fute.surrogate.load import load_surrogate

    # Half the usual length: an answer's time is in proportion, and what a text is about shows before its end.
    surrogate = load_surrogate(SurrogateConfig(layer=-1, max_tokens=64, device="cpu"), Path())

    def embed(text: str) -> Floats:
        features = compute_features(surrogate, TextTable([text]))
        return features[0] / np.linalg.norm(features[0])

    return embed
