"""Prefixes of keys and values in every attention layer, for any model family, without a copy of model code.

Every attention layer of transformers calls a function that it looks up by name in a registry. The functions
registered here put a prefix's keys and values before the layer's own, widen the mask, and go on to the usual
computation. A layer without a prefix gets exactly that usual computation. Positions are not shifted: the prefix has
none, and the tokens keep theirs.

Source of the prefixes: P-tuning v2 (Liu et al. 2022, arXiv 2110.07602), used for task embeddings by Zhou et al. 2022
(arXiv 2210.11705).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from fute.errors import SurrogateError

Prefixes = Mapping[nn.Module, tuple[Tensor, Tensor]]
"""Attention module -> (keys, values), each (heads, prefix, head_dim); as many heads as the layer has key-value heads.
Or each (groups, heads, prefix, head_dim): the batch is then so many groups of rows, one after the other, each with a
prefix of its own (as many groups as rows: one for every row)."""

Kernel = Literal["sdpa", "eager"]

_REGISTERED: dict[Kernel, str] = {"sdpa": "fute_prefix_sdpa", "eager": "fute_prefix_eager"}

# Context variables belong to one thread (or one coroutine): two trainings can share one model.
_active: ContextVar[Prefixes | None] = ContextVar("fute_active_prefixes", default=None)
_recorder: ContextVar[dict[nn.Module, tuple[int, int]] | None] = ContextVar("fute_attention_recorder", default=None)


@dataclass(frozen=True, eq=False)
class AttentionSite:
    """An attention module of a model, with the shape that its prefix needs."""

    module: nn.Module
    heads: int  # key-value heads
    head_dim: int


def fastest_kernel(device: torch.device, dtype: str) -> Kernel:
    """The kernel to train with: on a CPU in bfloat16 the backward pass of the fused one takes several times as long as
    attention written out (torch 2.13: 135 to 198 ms against 41 to 47 ms, forward and backward, 128 x 50 and 32 x 128
    tokens of MiniLM's shape); elsewhere the fused one is as fast or faster."""
    return "eager" if device.type == "cpu" and dtype == "bfloat16" else "sdpa"


def takes_prefixes(model: Any) -> bool:
    """Whether a transformers model's attention goes through the registry."""
    # Asked for by its protected name because the public setter only logs a warning when it can do nothing.
    return bool(model._can_set_attn_implementation())


def enable_prefixes(model: Any, kernel: Kernel = "sdpa") -> None:
    """Let a transformers model's attention layers take prefixes. Without one they compute what they did before.

    Args:
        kernel: sdpa: torch's fused attention; eager: attention written out. They differ by float rounding.

    Raises:
        SurrogateError: the model's attention does not go through the registry.
    """
    name = _REGISTERED[kernel]
    model_type = model.config.model_type
    advice = "Use a BERT, T5 or GPT-2 model, or method crosscov, which needs hidden states only."
    if not takes_prefixes(model):
        raise SurrogateError(
            f"the attention of {model_type!r} models takes no prefix (it is not in the registry). {advice}"
        )
    model.set_attn_implementation(name)


@contextmanager
def prefixes(by_module: Prefixes) -> Iterator[None]:
    """Within this context, and in this thread only, these attention modules see these prefixes."""
    token = _active.set(by_module)
    try:
        yield
    finally:
        _active.reset(token)


def active_prefixes() -> Prefixes:
    """The prefixes of the context that this thread is in; empty where there is none."""
    return _active.get() or {}


def attention_sites(run: Callable[[], object]) -> list[AttentionSite]:
    """The attention modules that `run` (a small forward pass of an enabled model) goes through, in order of first use.

    Found by watching instead of by name, so that no family needs a table of its modules.
    """
    seen: dict[nn.Module, tuple[int, int]] = {}
    token = _recorder.set(seen)
    try:
        with torch.no_grad():
            run()
    finally:
        _recorder.reset(token)
    return [AttentionSite(module, heads, head_dim) for module, (heads, head_dim) in seen.items()]


def _with_prefix(attend: Callable[..., tuple[Tensor, Tensor | None]]) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """Make an attention function see the active prefix of the module that calls it."""

    def attention(
        module: nn.Module,
        query: Tensor,  # (batch, query heads, queries, head_dim)
        key: Tensor,  # (batch, heads, keys, head_dim); only one group's rows where all groups share them
        value: Tensor,  # as key
        attention_mask: Tensor | None,  # (batch or 1, 1, queries or 1, keys), bool or additive
        position_bias: Tensor | None = None,  # (1, query heads, queries, keys), T5 only
        is_causal: bool | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        recorder = _recorder.get()
        if recorder is not None:
            recorder.setdefault(module, (key.shape[1], key.shape[3]))
        if is_causal is None:
            is_causal = bool(getattr(module, "is_causal", True))
        prefix = active_prefixes().get(module)
        if prefix is None:
            return attend(
                module, query, key, value, attention_mask, position_bias=position_bias, is_causal=is_causal, **options
            )
        n_prefix = prefix[0].shape[-2]
        if attention_mask is None and is_causal:
            # The kernels' own causal flag counts columns from the first one, which is now the prefix's.
            attention_mask = _causal_mask(query, key)
        key, value = (_joined(own, theirs, query.shape[0]) for own, theirs in zip(prefix, (key, value), strict=True))
        if attention_mask is not None:
            seen = True if attention_mask.dtype == torch.bool else 0.0
            attention_mask = F.pad(attention_mask, (n_prefix, 0), value=seen)
        if position_bias is not None:
            # The bias is added to the scores, so the prefix's columns get zeros: it has no relative position.
            position_bias = F.pad(position_bias, (n_prefix, 0))
        return attend(
            module, query, key, value, attention_mask, position_bias=position_bias, is_causal=False, **options
        )

    return attention


def _joined(own: Tensor, theirs: Tensor, n_rows: int) -> Tensor:
    """A prefix put before a layer's keys or values: (n_rows, heads, prefix + keys, head_dim)."""
    own = own if own.dim() == 4 else own.unsqueeze(0)  # (groups, heads, prefix, head_dim)
    shape = (len(own), n_rows // len(own), -1, -1, -1)  # groups, rows of a group
    shared = len(theirs) < n_rows
    theirs = theirs.unsqueeze(0).expand(shape) if shared else theirs.unflatten(0, shape[:2])
    return torch.cat([own.unsqueeze(1).expand(shape).to(theirs.dtype), theirs], dim=3).flatten(0, 1)


def _causal_mask(query: Tensor, key: Tensor) -> Tensor:
    """(1, 1, queries, keys) bool; the last query sees every key."""
    n_queries, n_keys = query.shape[2], key.shape[2]
    full = torch.ones(n_queries, n_keys, dtype=torch.bool, device=query.device)
    return full.tril(n_keys - n_queries)[None, None]


def _attend_explicitly(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    is_causal: bool = False,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attention written out, returning its weights: for checks, and where it is faster (fastest_kernel)."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    # The query is smaller than the scores, so it is scaled.
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = query @ key.transpose(2, 3)  # (batch, query heads, queries, keys)
    if position_bias is not None:
        scores = scores + position_bias
    if attention_mask is None and is_causal:
        attention_mask = _causal_mask(query, key)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill_(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    # Sums of exponentials need more digits than bfloat16 has.
    precise = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(dim=-1, dtype=precise).to(value.dtype)
    weights = F.dropout(weights, p=dropout, training=dropout > 0)
    return (weights @ value).transpose(1, 2).contiguous(), weights


# The mask function must be known under the same name, else a model would build no mask at all.
AttentionInterface.register(_REGISTERED["sdpa"], _with_prefix(sdpa_attention_forward))
AttentionMaskInterface.register(_REGISTERED["sdpa"], sdpa_mask)
AttentionInterface.register(_REGISTERED["eager"], _with_prefix(_attend_explicitly))
AttentionMaskInterface.register(_REGISTERED["eager"], sdpa_mask)
