"""Tiny random surrogates (2 layers, 32 numbers wide) with a tokenizer of whole words, saved as real folders."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
)

from fute.config import SurrogateConfig
from fute.surrogate.load import Surrogate, load_surrogate

NOUNS = ["cat", "dog", "bird", "fish", "mat", "log", "tree", "lake"]
VERBS = ["sat", "ran", "flew", "swam"]
OTHERS = ["the", "a", "on", "under", "over", "big", "small", "red", "blue", "old", "new", "and"]
WORDS = [*NOUNS, *VERBS, *OTHERS]
VOCABULARY = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}

_BERT_LIKE: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}


def build_model(kind: str) -> Any:
    torch.manual_seed(5)
    if kind == "bert":
        # Wider than the default start, so that states differ clearly between inputs.
        return BertModel(BertConfig(**_BERT_LIKE, initializer_range=0.2))
    if kind == "roberta":
        return RobertaModel(RobertaConfig(**_BERT_LIKE, type_vocab_size=1, initializer_range=0.2))
    if kind == "mpnet":
        return MPNetModel(MPNetConfig(**_BERT_LIKE))
    if kind == "distilbert":
        return DistilBertModel(
            DistilBertConfig(
                vocab_size=len(VOCABULARY), dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40
            )
        )
    if kind == "modernbert":
        special = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
        return ModernBertModel(ModernBertConfig(**{**_BERT_LIKE, **special}, global_attn_every_n_layers=2))
    if kind == "gpt2":
        return GPT2Model(
            GPT2Config(
                vocab_size=len(VOCABULARY),
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=40,
                bos_token_id=3,
                eos_token_id=3,
            )
        )
    if kind == "t5":
        return T5Model(
            T5Config(vocab_size=len(VOCABULARY), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=0)
        )
    raise ValueError(kind)


def build_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    if kind == "gpt2":
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[SEP]", unk_token="[UNK]")
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", VOCABULARY["[CLS]"]), ("[SEP]", VOCABULARY["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def save_tiny(kind: str, folder: Path) -> Path:
    build_model(kind).save_pretrained(folder)
    build_tokenizer(kind).save_pretrained(folder)
    return folder


def load_tiny(kind: str, folder: Path, *, whole: bool = False, **settings: Any) -> Surrogate:
    """Save a tiny surrogate (unless it is there) and load it as a study would."""
    if not (folder / kind).exists():
        save_tiny(kind, folder / kind)
    config = SurrogateConfig(**{"model": kind, "max_tokens": 24, "device": "cpu", **settings})
    return load_surrogate(config, folder, whole=whole)


def slow_bert(model: Any, ids: list[int], prefix: Tensor) -> Tensor:
    """BERT on one text, head by head and token by token; positions start at 0 and the prefix has none."""
    table = model.embeddings
    x = torch.stack(
        [
            table.word_embeddings.weight[token]
            + table.position_embeddings.weight[i]
            + table.token_type_embeddings.weight[0]
            for i, token in enumerate(ids)
        ]
    )
    x = table.LayerNorm(x)
    for number, layer in enumerate(model.encoder.layer):
        attention = layer.attention.self
        query, key, value = attention.query(x), attention.key(x), attention.value(x)
        rows = []
        for i in range(len(ids)):
            heads = []
            for h in range(4):
                part = slice(8 * h, 8 * h + 8)
                keys = [*prefix[number, 0, h], *key[:, part]]
                values = [*prefix[number, 1, h], *value[:, part]]
                scores = torch.stack([query[i, part] @ k / math.sqrt(8) for k in keys])
                heads.append(sum(w * v for w, v in zip(scores.softmax(0), values, strict=True)))
            rows.append(torch.cat(heads))
        x = layer.attention.output.LayerNorm(layer.attention.output.dense(torch.stack(rows)) + x)
        x = layer.output.LayerNorm(layer.output.dense(nn.functional.gelu(layer.intermediate.dense(x))) + x)
    return x
