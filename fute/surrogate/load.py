"""Loading the surrogate: one frozen pretrained model, pinned by its content or its commit.

Three kinds of names are known: the model that ships with the installation, a local folder, and a name on the
Hugging Face hub. Weights come from safetensors files only, and no code of a model repository is ever run.
"""

from __future__ import annotations

import copy
import logging
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModel, AutoModelForTextEncoding
from transformers.pytorch_utils import Conv1D

from fute.config import SurrogateConfig
from fute.errors import SurrogateError
from fute.fingerprint import fingerprint
from fute.surrogate.device import find_device, has_bfloat16, require_bfloat16
from fute.surrogate.identity import identity_of, resolve_dtype
from fute.surrogate.limits import longest_input
from fute.surrogate.pretrained import open_pretrained
from fute.surrogate.source import Source, find_source, read_config

logger = logging.getLogger(__name__)

Family = Literal["bert", "t5", "gpt2"]

FAMILIES: dict[str, Family] = {
    **dict.fromkeys(
        ["bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet", "modernbert"], "bert"
    ),
    **dict.fromkeys(["t5", "mt5"], "t5"),
    "gpt2": "gpt2",
}
"""transformers' model_type -> family. Others would load, but nobody has looked at what their states mean."""

_MATRICES = (torch.nn.Linear, Conv1D)


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A loaded surrogate, frozen and in evaluation mode. Safe to share between threads.

    Attributes:
        model: the transformer without a head, float32. T5: its encoder alone, or the whole of it where asked for.
        id: fingerprint of all that can change a feature; names the feature cache and enters the space.
        revision: digest of the files, or the hub's commit.
        width: numbers in one hidden state.
        max_tokens: longer inputs are cut to this.
        longest_input: tokens that the model's position table holds; None where positions are relative.
    """

    model: Any
    tokenizer: Any
    config: SurrogateConfig
    id: str
    revision: str
    family: Family
    width: int
    device: torch.device
    max_tokens: int
    longest_input: int | None
    # A fast tokenizer keeps its truncation settings inside and refuses to be used by two threads at once.
    tokenizer_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of a forward pass. Weights stay float32: layer norms and residual sums keep their precision."""
        enabled = self.config.dtype == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


def frozen_copy(surrogate: Surrogate) -> Surrogate:
    """The same surrogate with modules of its own, to be set up (attention, checkpointing) without touching the other's.

    Parameters are shared, but for those that autocast would cast to bfloat16 in each forward pass: they are cast here,
    once, to the same numbers. So it must stay frozen.
    """
    shared: dict[int, Any] = {id(p): p for p in surrogate.model.parameters()}
    if surrogate.config.dtype == "bfloat16":
        cast = (p for m in surrogate.model.modules() if isinstance(m, _MATRICES) for p in m.parameters(recurse=False))
        shared |= {id(p): torch.nn.Parameter(p.detach().bfloat16(), requires_grad=False) for p in cast}
    return replace(surrogate, model=copy.deepcopy(surrogate.model, memo=shared))


def load_surrogate(config: SurrogateConfig, base_dir: Path, *, whole: bool = False) -> Surrogate:
    """Load the surrogate that a study names.

    Args:
        base_dir: where a relative folder starts from.
        whole: with the decoder that a T5 has; features need its encoder only, trained embeddings need both.

    Raises:
        SurrogateError: no such model, the hub cannot be reached, a family that is not supported, weights missing,
            no fast tokenizer, a layer or length that the model does not have, no such device, or one that cannot
            compute in the dtype.
    """
    config = resolve_dtype(config)
    source = find_source(config.model, config.revision, base_dir)
    device = find_device(config.device)
    if config.dtype == "bfloat16":
        require_bfloat16(device)
    model_type = read_config(source).model_type
    family = FAMILIES.get(model_type)
    if family is None:
        raise SurrogateError(
            f"{config.model} is a {model_type!r} model, which is not supported as a surrogate. "
            f"Use one of: {', '.join(sorted(FAMILIES))}"
        )
    if config.dtype == "bfloat16" and device.type == "cpu" and not has_bfloat16(device):
        logger.warning("this CPU has no bfloat16 arithmetic and imitates it slowly; dtype float32 is much faster here")
    model, tokenizer = _load_model(source, family, whole)
    _check_tokenizer(source, tokenizer, model.config.vocab_size)
    n_layers = int(model.config.num_hidden_layers)
    if config.layer != "upper_half" and not -n_layers - 1 <= config.layer <= n_layers:
        raise SurrogateError(
            f"layer {config.layer} of {config.model}, which has {n_layers}; "
            f"give 0 (embeddings) to {n_layers}, -1 (last) or upper_half"
        )
    limit = longest_input(model)
    if limit is not None and config.max_tokens > limit:
        raise SurrogateError(f"max_tokens is {config.max_tokens}, but {config.model} reads {limit} at most")
    return Surrogate(
        model=model.to(device).eval().requires_grad_(False),
        tokenizer=tokenizer,
        config=config,
        id=fingerprint(**identity_of(config, source)),
        revision=source.revision,
        family=family,
        width=int(model.config.hidden_size),
        device=device,
        max_tokens=config.max_tokens,
        longest_input=limit,
    )


def _load_model(source: Source, family: Family, whole: bool) -> tuple[Any, Any]:
    # T5's features are those of its encoder; the text-encoding class loads that half only.
    auto_class = AutoModelForTextEncoding if family == "t5" and not whole else AutoModel
    needs = "its weights as safetensors files and its tokenizer.json (save_pretrained writes them)"
    model, tokenizer, missing = open_pretrained(source, auto_class, what="a surrogate", needs=needs)
    # A pooler is never used here, and many checkpoints have none. Any other gap would be filled with random numbers.
    missing = [key for key in missing if not key.startswith("pooler.")]
    if missing:
        raise SurrogateError(
            f"{source.name} lacks {len(missing)} weights of its own model, {missing[0]} for one; "
            "give the folder or the name of a complete checkpoint"
        )
    return model, tokenizer


def _check_tokenizer(source: Source, tokenizer: Any, n_embeddings: int) -> None:
    if not tokenizer.is_fast:
        raise SurrogateError(f"{source.name} has a slow tokenizer only; save it with its tokenizer.json and try again")
    vocabulary = tokenizer.get_vocab()
    # Without its files transformers makes up a tokenizer of special tokens only, to which every word is unknown.
    if len(vocabulary) - len(set(tokenizer.all_special_tokens)) < 2:
        raise SurrogateError(
            f"the tokenizer of {source.name} knows no words; put its tokenizer.json beside the weights"
        )
    if max(vocabulary.values()) >= n_embeddings:
        raise SurrogateError(
            f"the tokenizer of {source.name} has token ids up to {max(vocabulary.values())}, but the model embeds "
            f"{n_embeddings} only; give the tokenizer that belongs to it"
        )
