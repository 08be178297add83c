"""Texts from templates and word lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

Rules = Mapping[str, Sequence[str]]
"""Slot -> what may stand there; a choice may hold slots itself."""

_SLOT = re.compile(r"\{([a-z_]+)(?::(\d))?\}")


def one_of(text: str) -> tuple[str, ...]:
    """The choices of a slot, written as 'one | another'."""
    return tuple(choice.strip() for choice in text.split("|"))


def expand(rules: Rules, template: str, rng: np.random.Generator) -> str:
    """Fill in the slots of a template: {animal} is drawn anew each time, {animal:1} once for the whole template.

    Raises:
        KeyError: a slot has no rule.
    """
    drawn: dict[str, str] = {}

    def fill(match: re.Match[str]) -> str:
        slot, number = match.groups()
        if number and match.group() in drawn:
            return drawn[match.group()]
        choices = rules[slot]
        filled = _SLOT.sub(fill, choices[int(rng.integers(len(choices)))])
        if number:
            drawn[match.group()] = filled
        return filled

    return _SLOT.sub(fill, template)


def sentence(text: str) -> str:
    """With a capital at the start of each sentence, and 'an' before a vowel."""
    text = re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text)
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)
