"""Tokenised inputs: read once, sorted by length, padded per batch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fute import stopping
from fute.errors import SurrogateError
from fute.surrogate.load import Surrogate
from fute.types import TextTable

WASTE, LEAST_ROWS = 0.15, 8
"""Padding that is put up with, as a share of the tokens; and fewer rows than this are not worth a pass of their own."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """n tokenised inputs, in the order of the table.

    Attributes:
        ids: per input its token ids, special tokens included.
        type_ids: per input 0 for tokens of the first text and 1 for the second, where the surrogate takes them.
        lengths: (n,) int64, tokens of each input.
        truncated: (n,) bool, inputs that were too long and were cut.
        context_offsets: per input (tokens, 2) int64: the characters [start, end) of the second text that a token
            stands for, (-1, -1) for tokens that are not of it. None: not known (tokenise_with_offsets finds them).
    """

    ids: Sequence[Sequence[int]]
    type_ids: Sequence[Sequence[int]] | None
    lengths: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    context_offsets: Sequence[NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.integer]) -> Tokens:
        types = None if self.type_ids is None else [self.type_ids[i] for i in rows]
        offsets = None if self.context_offsets is None else [self.context_offsets[i] for i in rows]
        return Tokens([self.ids[i] for i in rows], types, self.lengths[rows], self.truncated[rows], offsets)


def tokenise(surrogate: Surrogate, table: TextTable, max_tokens: int | None = None) -> Tokens:
    """Tokenise each input once: a pair as a pair, a single text alone, cut to max_tokens.

    Args:
        max_tokens: at most what the surrogate can read; default: the surrogate's own max_tokens.

    Raises:
        SurrogateError: an input has no token at all, or the inputs are no texts.
    """
    if table.columns is not None:
        raise SurrogateError(
            f"{surrogate.config.model} reads texts, and the inputs are rows of a table; set surrogate.model to vectors "
            "or vectors:FILE, or use method outputs"
        )
    longest = readable(surrogate, max_tokens)
    pairs: Sequence[str | None]
    if surrogate.family == "gpt2":
        # GPT-2's tokenizer knows no pairs: it would join the two texts without anything between them.
        texts, pairs = table.joined(separator="\n"), [None] * len(table)
    else:
        texts, pairs = list(table.texts), table.pairs or [None] * len(table)
    ids: list[list[int]] = [[]] * len(table)
    types: list[list[int]] = [[]] * len(table)
    truncated = np.zeros(len(table), dtype=bool)
    for paired in (False, True):
        rows = [i for i, pair in enumerate(pairs) if (pair is not None) == paired]
        if not rows:
            continue
        with surrogate.tokenizer_lock:
            encoded = surrogate.tokenizer(
                [texts[i] for i in rows],
                [pairs[i] for i in rows] if paired else None,
                truncation=True,
                max_length=longest,
            )
        for i, encoding in zip(rows, encoded.encodings, strict=True):
            ids[i], types[i] = encoding.ids, encoding.type_ids
            truncated[i] = bool(encoding.overflowing)
    lengths = np.array([len(row) for row in ids], dtype=np.int64)
    if not lengths.all():
        row = int(np.flatnonzero(lengths == 0)[0])
        raise SurrogateError(
            f"{int((lengths == 0).sum())} inputs have no token under {surrogate.config.model}, "
            f"row {row} for one: {texts[row][:40]!r}; leave them out"
        )
    return Tokens(ids, types if takes_types(surrogate) else None, lengths, truncated)


def readable(surrogate: Surrogate, max_tokens: int | None) -> int:
    """The tokens that an input is cut to: what is wanted, and never more than the surrogate's positions."""
    wanted = max_tokens or surrogate.max_tokens
    return wanted if surrogate.longest_input is None else min(wanted, surrogate.longest_input)


def pad_batch(surrogate: Surrogate, tokens: Tokens, rows: NDArray[np.integer]) -> dict[str, Tensor]:
    """The surrogate's arguments for some rows, padded on the right to the longest of them: tensors (rows, longest)."""
    stopping.check()  # here, where every batch of every loop over a surrogate passes
    shape = (len(rows), int(tokens.lengths[rows].max()))
    ids = np.full(shape, surrogate.tokenizer.pad_token_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    types = np.zeros(shape, dtype=np.int64)
    for line, row in enumerate(rows):
        length = tokens.lengths[row]
        ids[line, :length] = tokens.ids[row]
        mask[line, :length] = 1
        if tokens.type_ids is not None:
            types[line, :length] = tokens.type_ids[row]
    batch = {"input_ids": ids, "attention_mask": mask}
    if tokens.type_ids is not None:
        batch["token_type_ids"] = types
    return {name: torch.from_numpy(array).to(surrogate.device) for name, array in batch.items()}


def parts_of_like_length(lengths: NDArray[np.int64], batch: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """A batch of rows, shortest first, cut where padding it as a whole would waste more than WASTE of its tokens."""
    parts, first, real = [], 0, 0
    for i, row in enumerate(batch):
        padded = int(lengths[row]) * (i - first + 1)
        if i - first >= LEAST_ROWS and padded > (1 + WASTE) * (real + lengths[row]):
            parts.append(batch[first:i])
            first, real = i, 0
        real += int(lengths[row])
    return [*parts, batch[first:]]


def mean_over_mask(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of hidden states (rows, length, width) over the tokens of a mask (rows, length): (rows, width), float32 (of
    float64 states float64)."""
    precise = torch.promote_types(states.dtype, torch.float32)
    weights = mask.to(precise).unsqueeze(-1)  # (rows, length, 1)
    return (states.to(precise) * weights).sum(dim=1) / weights.sum(dim=1)


def takes_types(surrogate: Surrogate) -> bool:
    # GPT-2 would add the embedding of word 0 or 1 for a type id; RoBERTa's table has one row only.
    return (
        surrogate.family == "bert"
        and "token_type_ids" in inspect.signature(surrogate.model.forward).parameters
        and getattr(surrogate.model.config, "type_vocab_size", 0) > 1
    )
