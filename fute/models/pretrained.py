"""Fine-tuned models of the transformers library, from a local folder or the model hub."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from fute.config import SpanAnswererModel, TransformersModel
from fute.errors import ModelError, SurrogateError
from fute.models.encoding import prepare_tokenizer
from fute.seeding import seeded
from fute.surrogate.load import find_device
from fute.surrogate.source import Source, find_source


class Checkpoint:
    """A fine-tuned model's files. They are looked for when first asked for, and loaded when the model is first used.

    Args:
        device: auto, cpu, cuda, cuda:1, mps.
        auto_class: AutoModelForSequenceClassification or another of its kind.
        what: what that makes of it, for messages ("a sequence classifier").
        purpose: what such a checkpoint was fine-tuned for ("classification").
    """

    def __init__(
        self,
        config: TransformersModel | SpanAnswererModel,
        base_dir: Path,
        device: str,
        *,
        auto_class: Any,
        what: str,
        purpose: str,
    ) -> None:
        self._config = config
        self._base_dir = base_dir
        self._device = device
        self._auto_class = auto_class
        self._what = what
        self._purpose = purpose

    @cached_property
    def source(self) -> Source:
        """Raises ModelError: no such model, or the hub cannot be reached."""
        try:
            return find_source(self._config.model, self._config.revision, self._base_dir)
        except SurrogateError as exc:
            raise ModelError(f"{self._config.id}: {exc}") from exc

    @cached_property
    def loaded(self) -> tuple[Any, Any, torch.device]:
        """The model on its device, ready to answer; its tokenizer; the device."""
        model, tokenizer = load_pretrained(self._config.id, self.source, self._auto_class, self._what, self._purpose)
        try:
            device = find_device(self._device)
        except SurrogateError as exc:
            raise ModelError(f"{self._config.id}: {exc}") from exc
        return model.to(device).eval().requires_grad_(False), tokenizer, device


def load_pretrained(model_id: str, source: Source, auto_class: Any, what: str, purpose: str) -> tuple[Any, Any]:
    """A model with its own trained head, float32, and its tokenizer. Safetensors only, no code of the repository.

    Args:
        auto_class: AutoModelForSequenceClassification or another of its kind.
        what: what that makes of it, for messages ("a sequence classifier").
        purpose: what such a checkpoint was fine-tuned for ("classification").

    Raises:
        ModelError: no safetensors weights, weights missing (a head would be random), no tokenizer.
    """
    try:
        # transformers swaps functions of the whole process while it loads, so one model loads at a time.
        with seeded(0):
            model, info = auto_class.from_pretrained(
                source.location,
                **source.loading_options,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        tokenizer = prepare_tokenizer(AutoTokenizer.from_pretrained(source.location, **source.loading_options))
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as exc:
        raise ModelError(
            f"{model_id}: {source.name} could not be loaded as {what}; it needs config.json, weights "
            f"as safetensors and its tokenizer's files (save_pretrained writes them all). The cause: {exc}"
        ) from exc
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelError(
            f"{model_id}: {source.name} lacks {len(missing)} weights of {what} ({missing[0]}, for "
            f"one), so its answers would be random; give a checkpoint that was fine-tuned for {purpose}"
        )
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id  # GPT-2 heads look for the last token before the padding
    return model, tokenizer
