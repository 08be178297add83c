"""Surrogates of the usual shapes with random weights: speed and memory do not depend on what the weights say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, BertConfig, BertModel, T5Config, T5Model

from fute.config import SurrogateConfig
from fute.surrogate.load import Surrogate, load_surrogate
from fute.surrogate.source import find_source

SHAPES: dict[str, dict[str, int]] = {
    "minilm": {"width": 384, "layers": 6, "heads": 12, "inner": 1536},
    "bert-base": {"width": 768, "layers": 12, "heads": 12, "inner": 3072},
    "t5-small": {"width": 512, "layers": 6, "heads": 8, "inner": 2048},
    "t5-base": {"width": 768, "layers": 12, "heads": 12, "inner": 3072},
}


def shaped_surrogate(
    shape: str, folder: Path, *, max_tokens: int, device: str, dtype: str, whole: bool = True
) -> Surrogate:
    """Write a surrogate of this shape into a folder (unless it is there) and load it as a study would.

    All of them read with the embedded surrogate's tokenizer, so all see the same tokens.

    Args:
        whole: with a T5's decoder; features need its encoder alone.
    """
    if not (folder / shape).exists():
        source = find_source(SurrogateConfig().model, None, folder)
        tokenizer = AutoTokenizer.from_pretrained(source.location, **source.loading_options)
        torch.manual_seed(0)
        _model(shape, len(tokenizer), int(tokenizer.pad_token_id)).save_pretrained(folder / shape)
        tokenizer.save_pretrained(folder / shape)
    config = SurrogateConfig.model_validate(
        {"model": str(folder / shape), "max_tokens": max_tokens, "device": device, "dtype": dtype}
    )
    return load_surrogate(config, folder, whole=whole)


def _model(shape: str, n_words: int, pad: int) -> Any:
    size = SHAPES[shape]
    if shape.startswith("t5"):
        return T5Model(
            T5Config(
                vocab_size=n_words, d_model=size["width"], d_kv=64, d_ff=size["inner"], num_layers=size["layers"],
                num_heads=size["heads"], pad_token_id=pad, decoder_start_token_id=pad,
            )
        )  # fmt: skip
    return BertModel(
        BertConfig(
            vocab_size=n_words, hidden_size=size["width"], num_hidden_layers=size["layers"],
            num_attention_heads=size["heads"], intermediate_size=size["inner"], pad_token_id=pad,
        ),
        add_pooling_layer=False,
    )  # fmt: skip
