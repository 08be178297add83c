"""Questions with their contexts as token ids: a long context is read in windows that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.models.encoding import Encoded
from fute.surrogate.span_tokens import shortened

Ints = NDArray[np.int64]

MOST_OVERLAP = 0.75
"""Of the room that the longest question leaves: windows that hardly advance would cost a pass for every few tokens."""


@dataclass(frozen=True, eq=False)
class Windows:
    """m windows of n questions, the windows of a question one after the other.

    Attributes:
        encoded: the model's arguments for each window.
        rows: (m,) the question that a window belongs to.
        firsts: (m,) number, within the whole context, of the window's first context token.
        context: per window where its context tokens lie among its tokens, a slice.
        nulls: (m,) the token that stands for "no answer": the class token, else the first one.
        offsets: per question (tokens of the whole context, 2): characters [start, end) of each token.
        questions_cut: questions that were so long that they were cut.
    """

    encoded: Encoded
    rows: Ints
    firsts: Ints
    context: Sequence[slice]
    nulls: Ints
    offsets: Sequence[Ints]
    questions_cut: int

    def of_row(self, row: int) -> range:
        """The windows of a question."""
        return range(*np.searchsorted(self.rows, [row, row + 1]).tolist())


def read_in_windows(
    tokenizer: Any, questions: Sequence[str], contexts: Sequence[str], max_tokens: int, stride: int
) -> Windows:
    """Encode n questions with their contexts, each in as many windows as it takes.

    A question may take half of a window at most; a longer one loses its end, so that the context always has room. The
    tokenizer's own limit counts as well. Not for two threads at once: a fast tokenizer keeps its truncation inside.

    Args:
        stride: tokens that a window shares with the one before it, MOST_OVERLAP of the least room at most.

    Raises:
        ValueError: the tokenizer does not say which characters a token stands for.
    """
    if not tokenizer.is_fast:
        raise ValueError("its tokenizer gives no character offsets; save it with a fast tokenizer (tokenizer.json)")
    limit = min(max_tokens, tokenizer.model_max_length)
    short, cut = shortened(tokenizer, questions, limit // 2)
    # What the longest question leaves. Not that of these questions: no answer may depend on what else is asked.
    room = limit - limit // 2 - tokenizer.num_special_tokens_to_add(pair=True)
    overlap = min(stride, int(MOST_OVERLAP * room))
    if room < 2:
        raise ValueError(f"{limit} tokens leave no room for a context; raise max_tokens")
    encoded = tokenizer(
        short,
        list(contexts),
        truncation="only_second",
        max_length=limit,
        stride=overlap,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    offset_mapping = encoded.pop("offset_mapping")
    rows = np.array(encoded.pop("overflow_to_sample_mapping"), dtype=np.int64)
    fields = [{name: list(values[i]) for name, values in encoded.items()} for i in range(len(rows))]
    slices = [_context_slice(encoded.sequence_ids(i)) for i in range(len(rows))]
    sizes = np.array([part.stop - part.start for part in slices], dtype=np.int64)

    firsts = np.zeros(len(rows), dtype=np.int64)
    offsets: list[Ints] = [np.zeros((0, 2), dtype=np.int64)] * len(contexts)
    for before, i in pairwise(range(len(rows))):
        if rows[i] == rows[before]:
            firsts[i] = firsts[before] + sizes[before] - overlap
    for i, row in enumerate(rows):
        new = np.array(offset_mapping[i][slices[i]], dtype=np.int64).reshape(-1, 2)
        offsets[row] = np.concatenate([offsets[row][: firsts[i]], new])
    lengths = np.array([len(row["input_ids"]) for row in fields], dtype=np.int64)
    nulls = np.array([_position(row["input_ids"], tokenizer.cls_token_id) for row in fields], dtype=np.int64)
    trimmed = [_trimmed(part, context) for part, context in zip(offsets, contexts, strict=True)]
    return Windows(Encoded(fields, lengths, 0), rows, firsts, slices, nulls, trimmed, int(cut.sum()))


def _context_slice(sequence_ids: Sequence[int | None]) -> slice:
    inside = [i for i, sequence in enumerate(sequence_ids) if sequence == 1]
    return slice(inside[0], inside[-1] + 1) if inside else slice(0, 0)


def _position(ids: Sequence[int], token: int | None) -> int:
    return ids.index(token) if token in ids else 0


def _trimmed(offsets: Ints, context: str) -> Ints:
    """Offsets without the blanks that some tokenizers count to the next word; a token of blanks alone is empty."""
    trimmed = offsets.copy()
    for i, (start, end) in enumerate(offsets):
        piece = context[start:end]
        trimmed[i] = start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
    trimmed[:, 1] = np.maximum(trimmed[:, 1], trimmed[:, 0])
    return trimmed
