"""Tiny random language models with a tokenizer of whole words, saved as real folders."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from tests.fute.tiny_surrogates import VOCABULARY, build_tokenizer

KINDS = ["gpt2", "t5"]


def save_writer(kind: str, folder: Path, width: int = 32) -> Path:
    """A causal ("gpt2") or seq2seq ("t5") model; its weights are wide, so that its answers hang on its input."""
    torch.manual_seed(11)
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=len(VOCABULARY), n_embd=width, n_layer=2, n_head=4, n_positions=40, initializer_range=0.4,
            bos_token_id=3, eos_token_id=3,
        )  # fmt: skip
        model = GPT2LMHeadModel(config)
    else:
        config = T5Config(
            vocab_size=len(VOCABULARY), d_model=width, d_kv=width // 4, d_ff=64, num_layers=2, num_heads=4,
            pad_token_id=0, eos_token_id=3, decoder_start_token_id=0, initializer_factor=3.0,
        )  # fmt: skip
        model = T5ForConditionalGeneration(config)
    model.save_pretrained(folder)
    build_tokenizer(kind).save_pretrained(folder)
    return folder
