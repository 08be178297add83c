"""Hidden states of every token, from all three families by one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from fute.surrogate.load import Surrogate

CrossStates = Sequence[tuple[Tensor, Tensor]]
"""For each layer of T5's decoder the keys and values of its cross-attention, each (rows, heads, length, head_dim)."""


def encoder_states(surrogate: Surrogate, batch: Mapping[str, Tensor]) -> Tensor:
    """What T5's encoder makes of a batch, (rows, length, width): no prefix and no decoder weight touches it."""
    with surrogate.autocast():
        return surrogate.model.encoder(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state


def cross_states(surrogate: Surrogate, encoded: Tensor) -> CrossStates:
    """What T5's decoder looks at in (rows, length, width) states of its encoder; no prefix touches this either."""
    with surrogate.autocast():
        attentions = [block.layer[1].EncDecAttention for block in surrogate.model.decoder.block]
        shape = (*encoded.shape[:2], attentions[0].n_heads, -1)
        return [
            (a.k(encoded).view(shape).transpose(1, 2), a.v(encoded).view(shape).transpose(1, 2)) for a in attentions
        ]


def token_states(
    surrogate: Surrogate,
    batch: Mapping[str, Tensor],
    *,
    cross: CrossStates | None = None,
    copies: int = 1,
) -> Tensor:
    """The last hidden states, one for each token of the input.

    T5 (loaded whole) reads the input with its encoder and again, shifted by one, with its decoder, whose states these
    are; the state at a token has seen the tokens before it and, through the encoder, all of them. So do transformers'
    own sequence classifier and span answerer for T5.

    Args:
        batch: the surrogate's arguments, as pad_batch makes them.
        cross: T5 only, what cross_states made of the encoder's states; default: the encoder runs here. With copies all
            of them share its rows, and the cross-attention of every layer needs its groups of prefixes.
        copies: so many copies of the batch, one after the other, each for a group of prefixes to see.

    Returns:
        (copies * rows, length, width), in the surrogate's precision.
    """
    if copies > 1:
        batch = {name: tensor.repeat(copies, 1) for name, tensor in batch.items()}
    with surrogate.autocast():
        if surrogate.family == "gpt2":
            return surrogate.model(**batch, use_cache=False).last_hidden_state
        if surrogate.family != "t5":
            return surrogate.model(**batch).last_hidden_state
        if cross is None:
            encoded = encoder_states(surrogate, batch)
        else:  # of the encoder's states only the shape is asked for now, to make a mask
            encoded = cross[0][0].new_zeros(()).expand(*batch["input_ids"].shape, surrogate.width)
        # Padding needs no mask in the decoder, for it stands at the end and a causal decoder never looks there.
        return surrogate.model.decoder(
            input_ids=_shifted(surrogate, batch["input_ids"]),
            encoder_hidden_states=encoded,
            encoder_attention_mask=batch["attention_mask"],
            past_key_values=None if cross is None else _CrossCache(cross),
            use_cache=False,
        ).last_hidden_state


def _shifted(surrogate: Surrogate, ids: Tensor) -> Tensor:
    """What T5's decoder reads: the start token first; the last token falls off."""
    config = surrogate.model.config
    start = getattr(config, "decoder_start_token_id", None)
    start = config.pad_token_id if start is None else start
    return torch.cat([torch.full_like(ids[:, :1], start), ids[:, :-1]], dim=1)


class _CrossCache(EncoderDecoderCache):
    """Cross-attention keys and values that were computed before; the tokens' own are not kept. Read only."""

    def __init__(self, cross: CrossStates) -> None:
        self.self_attention_cache = _NoCache()
        self.cross_attention_cache: Any = SimpleNamespace(layers=[SimpleNamespace(keys=k, values=v) for k, v in cross])
        self.is_updated = dict.fromkeys(range(len(cross)), True)


class _NoCache(DynamicCache):
    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        return key_states, value_states
