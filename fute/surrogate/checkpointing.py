"""Gradient checkpointing of a frozen surrogate: activations are computed again in the backward pass, not kept."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from fute.errors import SurrogateError
from fute.surrogate.prefix_attention import active_prefixes, prefixes


def enable_checkpointing(model: Any) -> None:
    """Checkpoint each layer of a transformers model, which stays in evaluation mode: no dropout.

    Raises:
        SurrogateError: the model's layers cannot be checkpointed.
    """
    layers = _layers(model)
    if not layers:
        raise SurrogateError(
            f"the layers of {model.config.model_type!r} models cannot be checkpointed; set checkpointing to false"
        )
    for layer in layers:
        # transformers checkpoints a layer only while it trains. The layer's own flag says so; what lies inside it keeps
        # its own, so that nothing is dropped out.
        layer.training = True
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, context_fn=_with_same_prefixes)
        # What T5's layers are given as a cache is only read (states.py), so they may keep it.
        layer._can_checkpoint_with_cache = True


def _layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def _with_same_prefixes() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    # On a GPU the backward pass runs in a thread of its own, which has none of this thread's context variables.
    return nullcontext(), prefixes(active_prefixes())
