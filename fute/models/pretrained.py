"""Fine-tuned models of the transformers library, from a local folder or the model hub."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fute.config import SpanAnswererModel, TransformersModel
from fute.errors import ModelError, SurrogateError
from fute.surrogate.source import Source, find_source

if TYPE_CHECKING:
    import torch


class Checkpoint:
    """A fine-tuned model's files. They are looked for when first asked for, and loaded when the model is first used.

    Args:
        device: auto, cpu, cuda, cuda:1, mps.
        auto_class: name of the transformers class, AutoModelForSequenceClassification or another of its kind.
        what: what that makes of it, for messages ("a sequence classifier").
        purpose: what such a checkpoint was fine-tuned for ("classification").
    """

    def __init__(
        self,
        config: TransformersModel | SpanAnswererModel,
        base_dir: Path,
        device: str,
        *,
        auto_class: str,
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
        import transformers

        from fute.surrogate.device import find_device

        auto_class = getattr(transformers, self._auto_class)
        model, tokenizer = load_pretrained(self._config.id, self.source, auto_class, self._what, self._purpose)
        try:
            device = find_device(self._device)
        except SurrogateError as exc:
            raise ModelError(f"{self._config.id}: {exc}") from exc
        return model.to(device).eval().requires_grad_(False), tokenizer, device


def load_pretrained(model_id: str, source: Source, auto_class: Any, what: str, purpose: str) -> tuple[Any, Any]:
    """A model with its own trained head, float32, and its tokenizer.

    Args:
        auto_class: AutoModelForSequenceClassification or another of its kind.
        what: what that makes of it, for messages ("a sequence classifier").
        purpose: what such a checkpoint was fine-tuned for ("classification").

    Raises:
        ModelError: it cannot be opened (`open_pretrained`), or weights are missing (a head would be random).
    """
    from fute.surrogate.pretrained import open_pretrained

    needs = "config.json, weights as safetensors and its tokenizer's files (save_pretrained writes them all)"
    try:
        model, tokenizer, missing = open_pretrained(source, auto_class, what=what, needs=needs)
    except SurrogateError as exc:
        raise ModelError(f"{model_id}: {exc}") from exc
    if missing:
        raise ModelError(
            f"{model_id}: {source.name} lacks {len(missing)} weights of {what} ({missing[0]}, for "
            f"one), so its answers would be random; give a checkpoint that was fine-tuned for {purpose}"
        )
    return model, tokenizer
