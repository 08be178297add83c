"""The pretrained model under a trained source model: which one it is, and its features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fute.config import SurrogateConfig, TrainedModel
from fute.errors import ModelError, SurrogateError
from fute.surrogate.identity import surrogate_identity
from fute.surrogate.source import Source, find_source
from fute.types import Features, Floats, TextTable

FeaturesOf = Callable[[SurrogateConfig, Path], Features]
"""(backbone, folder that relative paths start from) -> its features of any table. May read a cache."""


def backbone_config(config: TrainedModel, surrogate_config: SurrogateConfig) -> SurrogateConfig:
    """The backbone of a recipe, described as a surrogate is: the study's own unless the recipe names another."""
    own = {"model": config.backbone, "revision": config.revision} if config.backbone is not None else {}
    return surrogate_config.model_copy(update={**own, "layer": -1, "max_tokens": config.max_tokens, "dtype": "float32"})


def backbone_source(config: TrainedModel, surrogate_config: SurrogateConfig, base_dir: Path) -> Source:
    """Where the backbone's files are.

    Raises:
        ModelError: no such model, or the hub cannot be reached.
    """
    backbone = backbone_config(config, surrogate_config)
    try:
        return find_source(backbone.model, backbone.revision, base_dir)
    except SurrogateError as exc:
        raise ModelError(f"backbone of recipe {config.recipe}: {exc}") from exc


def backbone_identity(config: TrainedModel, surrogate_config: SurrogateConfig, base_dir: Path) -> dict[str, Any] | None:
    """What says which pretrained model a recipe builds on; None for a recipe without one. Loads no weights.

    Raises:
        ModelError: no such model, or the hub cannot be reached.
    """
    if config.recipe == "tfidf":
        return None
    if config.recipe == "finetune":
        return {"revision": backbone_source(config, surrogate_config, base_dir).revision}
    try:
        return surrogate_identity(backbone_config(config, surrogate_config), base_dir)
    except SurrogateError as exc:
        raise ModelError(f"backbone of recipe {config.recipe}: {exc}") from exc


def computed_features(backbone: SurrogateConfig, base_dir: Path) -> Features:
    """Features computed each time they are asked for, with the backbone loaded once."""
    from fute.surrogate.features import compute_features
    from fute.surrogate.load import load_surrogate

    surrogate = load_surrogate(backbone, base_dir)

    def features(table: TextTable) -> Floats:
        return compute_features(surrogate, table)

    return features
