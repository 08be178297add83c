"""Batches of tokenised inputs, with what T5's encoder makes of them computed once and kept."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fute.surrogate.load import Surrogate
from fute.surrogate.states import CrossStates, cross_states, encoder_states
from fute.surrogate.tokens import Tokens, pad_batch

GIB = 2**30


@dataclass(frozen=True, eq=False)
class Reading:
    """Some inputs as token_states takes them.

    Attributes:
        batch: the surrogate's arguments, tensors (rows, length).
        cross: T5 only, keys and values of its cross-attention.
    """

    batch: Mapping[str, Tensor]
    cross: CrossStates | None

    @property
    def mask(self) -> Tensor:
        return self.batch["attention_mask"]


class Reader:
    """Reads rows of tokenised inputs again and again. No prefix touches T5's encoder, so that half is computed once.

    Kept are the keys and values that the decoder's cross-attention makes of the encoder's states, without padding; the
    encoder's states alone where those need too much memory; and nothing where these do too.
    """

    def __init__(
        self, surrogate: Surrogate, tokens: Tokens, keep_gib: float, first: NDArray[np.integer] | None = None
    ) -> None:
        """
        Args:
            keep_gib: memory for what is kept.
            first: the rows that are read most often; the others are computed only when they are asked for.
        """
        self.surrogate = surrogate
        self.tokens = tokens
        self._kept: Tensor | None = None
        if surrogate.family != "t5":
            return
        config = surrogate.model.config
        half = surrogate.config.dtype == "bfloat16"
        n_tokens = int(tokens.lengths.sum())
        shapes = [(n_tokens, config.num_decoder_layers, 2, config.num_heads, config.d_kv), (n_tokens, surrogate.width)]
        for shape in shapes:
            if np.prod(shape, dtype=np.float64) * (2 if half else 4) <= keep_gib * GIB:
                # Not touched until it is filled: on a CPU, memory that is never filled is never taken.
                self._kept = torch.empty(
                    shape, dtype=torch.bfloat16 if half else torch.float32, device=surrogate.device
                )
                break
        self._starts = np.concatenate([[0], np.cumsum(tokens.lengths)[:-1]])
        # Rows are encoded block by block. Which rows share a block never depends on what was asked for before, so that
        # a run that goes on after it was killed gets the same bits.
        wanted = np.zeros(len(tokens), dtype=bool)
        wanted[slice(None) if first is None else first] = True
        self._blocks: list[NDArray[np.intp]] = []
        for rows in (np.flatnonzero(wanted), np.flatnonzero(~wanted)):
            by_length = rows[np.argsort(-tokens.lengths[rows], kind="stable")]
            size = surrogate.config.batch_size
            self._blocks += [by_length[start : start + size] for start in range(0, len(rows), size)]
        self._block_of = np.empty(len(tokens), dtype=np.intp)
        for number, rows in enumerate(self._blocks):
            self._block_of[rows] = number
        self._done = np.zeros(len(self._blocks), dtype=bool)
        self._filling = threading.Lock()

    @property
    def kept_gib(self) -> float:
        """Memory set aside for what is kept, in GiB."""
        return 0.0 if self._kept is None else self._kept.numel() * self._kept.element_size() / GIB

    def read(self, rows: NDArray[np.integer]) -> Reading:
        """Some rows, padded to the longest of them."""
        batch = pad_batch(self.surrogate, self.tokens, rows)
        if self.surrogate.family != "t5":
            return Reading(batch, None)
        with torch.no_grad():
            if self._kept is None:
                return Reading(batch, cross_states(self.surrogate, encoder_states(self.surrogate, batch)))
            with self._filling:
                for number in np.unique(self._block_of[rows]):
                    if not self._done[number]:
                        self._fill(self._kept, self._blocks[number])
                        self._done[number] = True
            kept = self._kept[self._places(rows)]  # (rows, length, ...)
            if kept.dim() == 3:
                return Reading(batch, cross_states(self.surrogate, kept))
            # (rows, length, layers, 2, heads, head_dim) -> keys and values of each layer
            layers = kept.permute(2, 3, 0, 4, 1, 5)
            return Reading(batch, [(layer[0], layer[1]) for layer in layers])

    def _fill(self, kept: Tensor, rows: NDArray[np.intp]) -> None:
        batch = pad_batch(self.surrogate, self.tokens, rows)
        states = encoder_states(self.surrogate, batch)
        if kept.dim() > 2:
            cross = cross_states(self.surrogate, states)
            # (layers, 2, rows, heads, length, head_dim) -> (rows, length, layers, 2, heads, head_dim)
            states = torch.stack([torch.stack(pair) for pair in cross]).permute(2, 4, 0, 1, 3, 5)
        real = batch["attention_mask"].bool()
        kept[self._places(rows)[real]] = states[real].to(kept.dtype)

    def _places(self, rows: NDArray[np.integer]) -> Tensor:
        """(rows, longest) where the tokens of each row are kept; padding points at the row's last token."""
        lengths = self.tokens.lengths[rows][:, None]
        within = np.minimum(np.arange(lengths.max())[None, :], lengths - 1)
        return torch.from_numpy(self._starts[rows][:, None] + within).to(self.surrogate.device)
