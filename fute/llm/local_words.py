"""Exact probabilities of whole words after a prompt, however many tokens a word has.

The spellings of all words, as token ids, form a tree. For each inner node (a beginning of spellings) the model is asked
once for the probabilities of the next token, and the product along a path is the probability that the answer begins
with that spelling. A spelling that goes on into another one ("no" into "not") gives up what the longer one takes, so
that no probability counts twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, log
from typing import Any

from fute.errors import ConfigError
from fute.llm.wire import LOWEST_LOGPROB

Ids = tuple[int, ...]


@dataclass(frozen=True)
class WordTree:
    """Words as a tokenizer writes them.

    Attributes:
        words: as they were asked about.
        spellings: for each word its spellings as token ids, each different from all others.
        wanted: proper beginnings of spellings, the empty one first, after which the model is asked: each with the
            tokens whose probabilities are needed there.
    """

    words: tuple[str, ...]
    spellings: tuple[tuple[Ids, ...], ...]
    wanted: Mapping[Ids, tuple[int, ...]]

    def word_logprobs(self, logprobs: Mapping[tuple[Ids, int], float]) -> list[float]:
        """Natural log-probability of each word: the sum over its spellings.

        Args:
            logprobs: (beginning, token) -> log-probability of the token after prompt and beginning.
        """
        every = [spelling for spellings in self.spellings for spelling in spellings]
        begins = {s: sum(logprobs[s[:i], s[i]] for i in range(len(s))) for s in every}
        masses = {s: exp(begins[s]) - sum(exp(begins[t]) for t in _next_longer(s, every)) for s in every}
        totals = [sum(max(0.0, masses[spelling]) for spelling in spellings) for spellings in self.spellings]
        return [max(LOWEST_LOGPROB, log(total) if total > 0 else -inf) for total in totals]


def word_tree(words: Sequence[str], tokenizer: Any, where: str) -> WordTree:
    """The tree of a verbalizer's words: as they stand, capitalised, in capitals; with and without a blank before.

    Raises:
        ConfigError: the tokenizer has no token for a word.
    """
    taken: set[Ids] = set()
    spellings: list[tuple[Ids, ...]] = []
    for word in words:
        forms = [blank + form for form in (word, word.capitalize(), word.upper(), word.lower()) for blank in (" ", "")]
        ids = [tuple(tokenizer(form, add_special_tokens=False)["input_ids"]) for form in dict.fromkeys(forms)]
        known = [spelling for spelling in ids if spelling and tokenizer.unk_token_id not in spelling]
        if not known:
            raise ConfigError(f"{where}: its tokenizer does not know the answer word {word!r}; use another word")
        # Without those with which an earlier word, or another form of this one, is spelled.
        spellings.append(tuple(spelling for spelling in dict.fromkeys(known) if spelling not in taken))
        taken.update(known)
    wanted: dict[Ids, dict[int, None]] = {(): {}}
    for spelling in (spelling for group in spellings for spelling in group):
        for i, token in enumerate(spelling):
            wanted.setdefault(spelling[:i], {})[token] = None
    return WordTree(tuple(words), tuple(spellings), {beginning: tuple(tokens) for beginning, tokens in wanted.items()})


def _next_longer(spelling: Ids, every: Sequence[Ids]) -> list[Ids]:
    """The spellings that go on from this one, without those that go on from another one of them."""
    longer = [t for t in every if len(t) > len(spelling) and t[: len(spelling)] == spelling]
    return [t for t in longer if not any(len(s) < len(t) and t[: len(s)] == s for s in longer)]
