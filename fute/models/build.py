"""From a study's model to something that answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fute.config import ModelConfig
from fute.models.predictions_table import PredictionsTable
from fute.models.python_callable import PythonCallable
from fute.models.sklearn_pipeline import SklearnPipeline
from fute.models.span_answerer import SpanAnswerer
from fute.models.transformers_classifier import TransformersClassifier
from fute.types import Model

KINDS: dict[str, Callable[[Any, Path, str], Model]] = {
    "transformers": TransformersClassifier,
    "span_answerer": SpanAnswerer,
    "sklearn": lambda config, base_dir, _: SklearnPipeline(config, base_dir),
    "python": lambda config, base_dir, _: PythonCallable(config, base_dir),
    "predictions": lambda config, base_dir, _: PredictionsTable(config, base_dir),
}
"""`kind` of the settings (`fute.config.ModelConfig`) -> its model. Prompted models and those that fute trains need more
than a study says, and are opened where that is known."""


def build_model(config: ModelConfig, base_dir: Path, device: str = "auto") -> Model:
    """Make the model that a study describes. Loads little; weights come when it is first asked.

    Args:
        base_dir: the folder that relative paths start from.
        device: of transformers: auto, cpu, cuda, cuda:1, mps.

    Raises:
        ModelError: a missing file or folder, or an entry point that cannot be loaded.
    """
    return KINDS[config.kind](config, base_dir, device)
