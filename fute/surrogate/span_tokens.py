"""Tokenised questions and contexts, with the characters that each token stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.errors import SurrogateError
from fute.surrogate.load import Surrogate
from fute.surrogate.tokens import Tokens, readable, takes_types
from fute.types import TextTable

QUESTION_SHARE = 0.5
"""A question that needs more than this share of the tokens is cut, so that its context always has room."""


def tokenise_with_offsets(surrogate: Surrogate, table: TextTable, max_tokens: int) -> Tokens:
    """Tokenise questions (texts) with their contexts (pairs); what is too long loses the end of its context.

    GPT-2's are followed by its end token: the only one that has seen all of the context and is none of it.

    Returns:
        Tokens with `context_offsets`; `truncated` marks the inputs that lost a part of their context or question.

    Raises:
        SurrogateError: a row without a context.
    """
    if table.pairs is None or any(pair is None for pair in table.pairs):
        raise SurrogateError("a question without a context; give every row a second text")
    longest = readable(surrogate, max_tokens)
    with surrogate.tokenizer_lock:
        questions, cut = shortened(surrogate.tokenizer, table.texts, max(1, int(QUESTION_SHARE * longest)))
    contexts = [str(pair) for pair in table.pairs]
    with surrogate.tokenizer_lock:
        if surrogate.family == "gpt2":  # knows no pairs: a line each
            lines = [f"{question}\n{context}" for question, context in zip(questions, contexts, strict=True)]
            encodings = surrogate.tokenizer(lines, truncation=True, max_length=longest - 1).encodings
        else:
            encodings = surrogate.tokenizer(questions, contexts, truncation="only_second", max_length=longest).encodings
    skip = [len(question) + 1 if surrogate.family == "gpt2" else None for question in questions]
    offsets = [_context_offsets(encoding, n) for encoding, n in zip(encodings, skip, strict=True)]
    overflowing = np.array([bool(encoding.overflowing) for encoding in encodings])
    ids = [encoding.ids for encoding in encodings]
    if surrogate.family == "gpt2":
        ids = [[*row, _end_token(surrogate)] for row in ids]
        offsets = [np.concatenate([row, [[-1, -1]]]) for row in offsets]
    return Tokens(
        ids,
        [encoding.type_ids for encoding in encodings] if takes_types(surrogate) else None,
        np.array([len(row) for row in ids], dtype=np.int64),
        overflowing | cut,
        offsets,
    )


def shortened(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> tuple[list[str], NDArray[np.bool_]]:
    """Texts cut to so many tokens of their own, and which of them were."""
    encodings = tokenizer(list(texts), add_special_tokens=False).encodings
    short, cut = list(texts), np.zeros(len(texts), dtype=bool)
    for i, encoding in enumerate(encodings):
        if len(encoding.ids) > max_tokens:
            short[i], cut[i] = texts[i][: encoding.offsets[max_tokens - 1][1]], True
    return short, cut


def _end_token(surrogate: Surrogate) -> int:
    end = surrogate.tokenizer.eos_token_id
    # A tokenizer without one has a padding token, for load_surrogate saw to that.
    return int(surrogate.tokenizer.pad_token_id if end is None else end)


def _context_offsets(encoding: Any, skip: int | None) -> NDArray[np.int64]:
    """(tokens, 2): characters of the context.

    Args:
        skip: characters before the context where both are one text; None where the tokenizer tells them apart.
    """
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    if skip is None:
        inside = np.array([sequence == 1 for sequence in encoding.sequence_ids], dtype=bool)
    else:
        offsets = offsets - skip
        inside = (offsets[:, 1] > 0) & (offsets[:, 1] > offsets[:, 0])
        offsets[:, 0] = np.maximum(offsets[:, 0], 0)  # a token may begin with the line break
    inside &= offsets[:, 1] > offsets[:, 0]  # special tokens stand for no character
    return np.where(inside[:, None], offsets, -1)
