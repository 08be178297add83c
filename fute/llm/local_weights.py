"""Causal and seq2seq models of transformers."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from fute.config import LocalModelConfig
from fute.errors import ConfigError, ModelError, SurrogateError
from fute.surrogate.device import find_device
from fute.surrogate.limits import longest_input
from fute.surrogate.pretrained import open_pretrained
from fute.surrogate.source import Source, read_config


@dataclass(frozen=True, eq=False)
class Weights:
    """A loaded model, in evaluation mode.

    Attributes:
        seq2seq: an encoder reads the prompt and a decoder writes the answer.
        name: with its revision, as answers report it.
        positions: tokens that it can read at most (its decoder's answer is apart from them); None where its positions
            have no end.
    """

    model: Any
    tokenizer: Any
    seq2seq: bool
    name: str
    positions: int | None
    device: torch.device


def load_weights(source: Source, local: LocalModelConfig) -> Weights:
    """
    Raises:
        ConfigError: no such device, or a package is missing that the settings need.
        ModelError: it is neither causal nor seq2seq, or its checkpoint is incomplete.
    """
    try:
        device = find_device(local.device)
        config = read_config(source)
    except SurrogateError as exc:
        raise ConfigError(str(exc)) from exc
    placing = _placing(local, device)
    seq2seq = bool(getattr(config, "is_encoder_decoder", False))
    auto_class: Any = AutoModelForSeq2SeqLM if seq2seq else AutoModelForCausalLM
    try:
        model, tokenizer, missing = open_pretrained(
            source,
            auto_class,
            what=f"a {'seq2seq' if seq2seq else 'causal'} language model",
            needs="safetensors and a tokenizer",
            dtype=local.dtype if local.dtype == "auto" else getattr(torch, local.dtype),
            **placing,
        )
    except SurrogateError as exc:
        raise ModelError(str(exc)) from exc
    if missing:
        raise ModelError(
            f"{source.name} lacks {len(missing)} weights of a language model, {missing[0]} for one; give a checkpoint "
            "that was trained to write text"
        )
    if not placing:
        model = model.to(device)
    return Weights(
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        seq2seq=seq2seq,
        name=f"{Path(source.name).name}@{source.revision[:12]}",
        positions=longest_input(model),
        device=model.device,
    )


def _placing(local: LocalModelConfig, device: torch.device) -> dict[str, Any]:
    """Arguments of from_pretrained that say where weights go and in how many bits."""
    placing: dict[str, Any] = {}
    if local.device_map is not None:
        _need("accelerate", "local.device_map spreads the weights over devices")
        placing["device_map"] = local.device_map
    if local.quantization != "none":
        _need("bitsandbytes", f"local.quantization is {local.quantization}")
        _need("accelerate", f"local.quantization is {local.quantization}")
        from transformers import BitsAndBytesConfig

        eight = local.quantization == "8bit"
        compute = torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
        placing["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=eight, load_in_4bit=not eight, bnb_4bit_compute_dtype=compute
        )
        placing.setdefault("device_map", {"": str(device)})
    return placing


def _need(package: str, why: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"{why}, which needs the package {package}; install it with: pip install 'fute[quantized]'")
