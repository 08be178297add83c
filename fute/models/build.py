"""From a study's model to something that answers."""

from __future__ import annotations

from pathlib import Path

from fute.config import (
    ModelConfig,
    PredictionsModel,
    PromptModel,
    PythonModel,
    SklearnModel,
    SpanAnswererModel,
    SurrogateConfig,
    TransformersModel,
)
from fute.errors import ModelError
from fute.models.predictions_table import PredictionsTable
from fute.models.python_callable import PythonCallable
from fute.models.sklearn_pipeline import SklearnPipeline
from fute.models.span_answerer import SpanAnswerer
from fute.models.transformers_classifier import TransformersClassifier
from fute.train.backbone import FeaturesOf, computed_features
from fute.types import Model


def build_model(
    config: ModelConfig,
    base_dir: Path,
    *,
    surrogate_config: SurrogateConfig | None = None,
    trained_folder: Path | None = None,
    features_of: FeaturesOf = computed_features,
) -> Model:
    """Make the model that a study describes. Loads little; weights come when it is first asked.

    Args:
        base_dir: the folder that relative paths start from.
        surrogate_config: its device serves transformers too; trained models may use it as their backbone.
        trained_folder: where fute.train.training.train wrote a trained model; for kind "trained" only.
        features_of: where a trained probe's backbone features come from; a caller may answer from a cache.

    Raises:
        ModelError: a missing file or folder, an entry point that cannot be loaded, or a prompted model, which
            needs a connection to its endpoint and is made where that is.
    """
    surrogate_config = surrogate_config or SurrogateConfig()
    if isinstance(config, TransformersModel):
        return TransformersClassifier(config, base_dir, device=surrogate_config.device)
    if isinstance(config, SpanAnswererModel):
        return SpanAnswerer(config, base_dir, device=surrogate_config.device)
    if isinstance(config, SklearnModel):
        return SklearnPipeline(config, base_dir)
    if isinstance(config, PythonModel):
        return PythonCallable(config, base_dir)
    if isinstance(config, PredictionsModel):
        return PredictionsTable(config, base_dir)
    if isinstance(config, PromptModel):
        raise ModelError(
            f"{config.id or config.prompt}: a prompted model needs its endpoint and its prompt; "
            "build it with fute.models.prompted"
        )
    if trained_folder is None:
        raise ModelError(
            f"{config.id or config.recipe}: a trained model is built from the folder that its training wrote; "
            "train it first (fute.train.training) and give trained_folder"
        )
    from fute.train.trained import load_trained

    return load_trained(
        trained_folder, config, base_dir=base_dir, surrogate_config=surrogate_config, features_of=features_of
    )
