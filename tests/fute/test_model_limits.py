"""What a model reads and pads with is asked from the model, wherever one is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertConfig,
    BertForQuestionAnswering,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    OPTConfig,
    OPTForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForSequenceClassification,
)

from fute.config import SpanAnswererModel, TransformersModel
from fute.errors import ModelError
from fute.models.build import build_model
from fute.surrogate.limits import longest_input
from fute.types import TextTable

from .tiny_surrogates import VOCABULARY, build_tokenizer

SIZE: dict[str, Any] = {"vocab_size": len(VOCABULARY), "num_labels": 2, "pad_token_id": 0}
BERT = {**SIZE, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
BART = {**SIZE, "num_labels": 3, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "eos_token_id": 3,
        "bos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 3}  # fmt: skip
NETWORKS = {
    "roberta": (RobertaForSequenceClassification, RobertaConfig(**BERT, max_position_embeddings=40), 39),
    "gpt2": (GPT2ForSequenceClassification, GPT2Config(**SIZE, n_embd=16, n_layer=1, n_head=2, n_positions=40), 40),
    "llama": (LlamaForSequenceClassification, LlamaConfig(**BERT, max_position_embeddings=40), 40),
    "opt": (OPTForSequenceClassification, OPTConfig(**SIZE, hidden_size=16, num_hidden_layers=1, ffn_dim=16,
            num_attention_heads=2, max_position_embeddings=40, word_embed_proj_dim=16), 40),
    "bart": (BartForSequenceClassification, BartConfig(**BART, max_position_embeddings=40), 40),
    "t5": (T5ForSequenceClassification, T5Config(**SIZE, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
           decoder_start_token_id=0, eos_token_id=3), None),
}  # fmt: skip


def saved(folder: Path, network: Any, tokenizer: Any = None) -> Path:
    network.save_pretrained(folder)
    (tokenizer or build_tokenizer("bert")).save_pretrained(folder)
    return folder


def classifier(folder: Path, **settings: Any) -> Any:
    config = {"kind": "transformers", "id": "m", "model": str(folder), **settings}
    return build_model(TransformersModel(**config), folder.parent)


@pytest.mark.parametrize("kind", NETWORKS)
def test_inputs_are_cut_to_what_the_model_reads(tmp_path: Path, kind: str) -> None:
    make, config, limit = NETWORKS[kind]
    torch.manual_seed(3)
    network = make(config)
    assert longest_input(network) == limit
    outputs = classifier(saved(tmp_path / kind, network), max_tokens=200).outputs(
        TextTable(["cat", "the dog ran", "cat dog " * 50])
    )
    assert outputs.details["n_truncated"] == (0 if limit is None else 1)
    assert np.isfinite(outputs.values).all()


def test_span_answerers_read_windows_of_what_the_model_reads(tmp_path: Path) -> None:
    network = BertForQuestionAnswering(BertConfig(**BERT, max_position_embeddings=40))
    folder = saved(tmp_path / "m", network)
    model = build_model(SpanAnswererModel(kind="span_answerer", id="m", model=str(folder)), tmp_path)
    outputs = model.outputs(TextTable(["the cat", "a dog"], ["cat sat " * 60, "a dog"]))
    assert outputs.details["rows_in_windows"] == 1


@pytest.mark.parametrize("told", [None, -1, 7])
def test_an_answer_does_not_depend_on_the_padding_beside_it(tmp_path: Path, told: int | None) -> None:
    """GPT-2's head takes the last token that its configuration does not call padding."""
    torch.manual_seed(3)
    network = GPT2ForSequenceClassification(
        GPT2Config(**{**SIZE, "pad_token_id": None}, n_embd=16, n_layer=1, n_head=2, n_positions=40,
                   initializer_range=0.5)
    )  # fmt: skip
    network.config.pad_token_id = told
    model = classifier(saved(tmp_path / "m", network), batch_size=3)
    texts = ["cat", "the dog ran", "the old cat sat on the mat under the tree"]
    together = model.outputs(TextTable(texts)).values
    for i, text in enumerate(texts):
        np.testing.assert_allclose(model.outputs(TextTable([text])).values[0], together[i], atol=1e-6)


def test_a_pad_token_that_the_model_does_not_embed_gives_way_to_the_end_token(tmp_path: Path) -> None:
    tokenizer = build_tokenizer("bert")
    tokenizer.add_special_tokens({"pad_token": "<another>"})
    assert tokenizer.pad_token_id == len(VOCABULARY)
    make, config, _ = NETWORKS["llama"]
    with pytest.raises(ModelError, match="neither a pad nor an end token that the model knows"):
        classifier(saved(tmp_path / "none", make(config), tokenizer)).outputs(TextTable(["cat", "dog ran"]))
    tokenizer.add_special_tokens({"eos_token": "[SEP]"})
    folder = saved(tmp_path / "end", make(config), tokenizer)
    assert classifier(folder).outputs(TextTable(["cat", "dog ran"])).values.shape == (2, 2)
