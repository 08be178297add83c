"""Fine-tuned transformers classifiers from local folders."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
)

from fute.config import TransformersModel
from fute.errors import ModelError
from fute.models.build import build_model
from fute.models.transformers_classifier import read_logits
from fute.types import TextTable

from .tiny_surrogates import VOCABULARY, build_tokenizer, save_tiny

TABLE = TextTable(
    [
        "the cat sat on the mat",
        "a bird",
        "the old dog ran over the red log and the new tree",
        "fish",
        "a big blue lake",
    ],
    [None, "a bird flew", None, "the fish swam", None],
)


def save_classifier(folder: Path, kind: str = "bert", **settings: Any) -> Path:
    torch.manual_seed(1)
    size = {"vocab_size": len(VOCABULARY), "num_labels": 3, **settings}
    model: Any
    if kind == "gpt2":
        model = GPT2ForSequenceClassification(
            GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=40, initializer_range=0.3, eos_token_id=3, **size)
        )
    else:
        model = BertForSequenceClassification(
            BertConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=48,
                max_position_embeddings=40,
                initializer_range=0.3,
                **size,
            )
        )
    model.save_pretrained(folder)
    build_tokenizer(kind).save_pretrained(folder)
    return folder


def classifier(folder: Path, **settings: Any):
    config = {"kind": "transformers", "id": "m", "model": folder.name, "max_tokens": 24, **settings}
    return build_model(TransformersModel(**config), folder.parent)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_batches_give_what_one_text_at_a_time_gives(tmp_path: Path, kind: str) -> None:
    folder = save_classifier(tmp_path / kind, kind, id2label={0: "no", 1: "yes", 2: "maybe"})
    outputs = classifier(folder, batch_size=2).outputs(TABLE)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder).eval(), build_tokenizer(kind)
    model.config.pad_token_id = tokenizer.pad_token_id or tokenizer.eos_token_id
    for i in range(len(TABLE)):
        texts = (TABLE.texts[i],) if TABLE.pairs[i] is None else (TABLE.texts[i], TABLE.pairs[i])
        with torch.inference_mode():
            alone = model(**tokenizer(*texts, return_tensors="pt")).logits.softmax(dim=1)[0].numpy()
        np.testing.assert_allclose(outputs.values[i], alone, atol=1e-6)
    assert outputs.kind == "probabilities"
    assert outputs.label_names == ("no", "yes", "maybe")
    assert outputs.validate(5).answered is None


def test_regressors_and_multi_label_models_give_scores(tmp_path: Path) -> None:
    number = classifier(save_classifier(tmp_path / "one", num_labels=1)).outputs(TABLE)
    assert (number.kind, number.values.shape) == ("scores", (5, 1))
    kind, values = read_logits(np.array([[0.0, 2.0]], np.float32), "multi_label_classification")
    assert kind == "scores"
    np.testing.assert_allclose(values, [[0.5, 1 / (1 + np.exp(-2))]], rtol=1e-6)
    assert read_logits(np.array([[0.0, 2.0]], np.float32), "regression")[0] == "scores"


def test_numbered_default_labels_name_nothing(tmp_path: Path) -> None:
    assert classifier(save_classifier(tmp_path / "m")).outputs(TABLE).label_names is None


def test_long_inputs_are_cut_and_counted(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "m")
    long = TextTable(["cat " * 30, "cat " * 60, "dog"])
    outputs = classifier(folder, max_tokens=8).outputs(long)
    assert outputs.details["n_truncated"] == 2
    np.testing.assert_allclose(outputs.values[0], outputs.values[1], atol=1e-6)


def test_a_backbone_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lacks 2 weights .*classifier.bias.* answers would be random"):
        classifier(save_tiny("bert", tmp_path / "backbone")).outputs(TABLE)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "m")
    weights = BertForSequenceClassification.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="m holds neither .* weights are read from safetensors files only"):
        classifier(folder).outputs(TABLE)


def test_fingerprint_follows_weights_and_cutting_but_not_batches_names_or_a_readme(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path / "m")
    first = classifier(folder).fingerprint
    (folder / "README.md").write_text("a fine model")
    assert classifier(folder, id="n", batch_size=1, task="t").fingerprint == first
    assert classifier(folder, max_tokens=12).fingerprint != first
    assert classifier(save_classifier(tmp_path / "m", num_labels=4)).fingerprint != first


def test_unknown_folders_and_an_unreachable_hub_say_what_to_do(tmp_path: Path) -> None:
    for name, message in [("./nowhere", "there is no folder"), ("some-org/some-model", "copy the model's folder")]:
        model = build_model(TransformersModel(kind="transformers", id="m", model=name), tmp_path)
        with pytest.raises(ModelError, match=f"m: .*{message}"):
            _ = model.fingerprint


def test_two_threads_may_ask_one_model(tmp_path: Path) -> None:
    model = classifier(save_classifier(tmp_path / "m"), batch_size=2)
    answers: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: answers.append(model.outputs(TABLE).values)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    for values in answers:
        np.testing.assert_array_equal(values, answers[0])
