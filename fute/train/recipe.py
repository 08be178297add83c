"""What makes a trained model the one that it is, known before it is trained, and without what trains it."""

from __future__ import annotations

from typing import Any

from fute.config import TrainedModel
from fute.fingerprint import fingerprint

# Raise a number when a change of the code alters what its recipe gives: it is part of the fingerprint.
RECIPE_VERSIONS = {"tfidf": 1, "probe": 1, "finetune": 1}

_SETTINGS = {
    "tfidf": {"max_rows"},
    "probe": {"max_rows", "max_tokens"},
    "finetune": {"max_rows", "max_tokens", "epochs", "learning_rate", "batch_size"},
}


def recipe_settings(config: TrainedModel) -> dict[str, Any]:
    """Those settings that change what the recipe gives."""
    return config.model_dump(mode="json", include=_SETTINGS[config.recipe])


def recipe_fingerprint(
    config: TrainedModel, dataset_fingerprint: str, backbone: dict[str, Any] | None, seed: int
) -> str:
    """Identity of a trained model, known before it is trained: a training that was done is found again by it.

    Args:
        backbone: as `backbone_identity` gives it.
    """
    return fingerprint(
        kind="trained",
        recipe=config.recipe,
        version=RECIPE_VERSIONS[config.recipe],
        settings=recipe_settings(config),
        dataset=dataset_fingerprint,
        backbone=backbone,
        seed=seed,
    )
