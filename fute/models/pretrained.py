"""Fine-tuned models of the transformers library, from a local folder or the model hub."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fute.config import SpanAnswererModel, TransformersModel
from fute.errors import ModelError, SurrogateError
from fute.surrogate.source import Source, find_source

if TYPE_CHECKING:
    import torch


class PretrainedModel:
    """What such models have in common. Their files are looked for when first asked for, and loaded on first use.

    Weights come from safetensors files only and no code of a model repository is run.

    Attributes:
        auto_class: name of the transformers class that loads it.
        what: what that makes of it, for messages ("a sequence classifier").
        purpose: what such a checkpoint was fine-tuned for ("classification").

    Args:
        device: auto, cpu, cuda, cuda:1, mps.
    """

    auto_class: ClassVar[str]
    what: ClassVar[str]
    purpose: ClassVar[str]

    def __init__(self, config: TransformersModel | SpanAnswererModel, base_dir: Path, device: str = "auto") -> None:
        self.id = config.id
        self._config: Any = config
        self._base_dir = base_dir
        self._device = device
        self._lock = threading.Lock()

    @cached_property
    def source(self) -> Source:
        """Raises ModelError: no such model, or the hub cannot be reached."""
        try:
            return find_source(self._config.model, self._config.revision, self._base_dir)
        except SurrogateError as exc:
            raise ModelError(f"{self.id}: {exc}") from exc

    @cached_property
    def loaded(self) -> tuple[Any, Any, torch.device]:
        """The model with its own trained head, float32, ready to answer; its tokenizer; the device.

        Raises:
            ModelError: it cannot be opened (`open_pretrained`), or weights are missing (a head would be random).
        """
        import transformers

        from fute.surrogate.device import find_device
        from fute.surrogate.pretrained import open_pretrained

        needs = "config.json, weights as safetensors and its tokenizer's files (save_pretrained writes them all)"
        auto_class = getattr(transformers, self.auto_class)
        try:
            model, tokenizer, missing = open_pretrained(self.source, auto_class, what=self.what, needs=needs)
            device = find_device(self._device)
        except SurrogateError as exc:
            raise ModelError(f"{self.id}: {exc}") from exc
        if missing:
            raise ModelError(
                f"{self.id}: {self.source.name} lacks {len(missing)} weights of {self.what} ({missing[0]}, for "
                f"one), so its answers would be random; give a checkpoint that was fine-tuned for {self.purpose}"
            )
        return model.to(device).eval().requires_grad_(False), tokenizer, device
