"""The models of a study, as their settings and the store name them; nothing is loaded before it is asked."""

from __future__ import annotations

from functools import partial

from fute.config import MlflowModel, ModelConfig, PromptModel, TrainedModel
from fute.models.build import build_model
from fute.train.backbone import backbone_identity
from fute.train.recipe import recipe_fingerprint
from fute.types import Model
from tasks import resources
from tasks.endpoints import prompted_model
from tasks.run import Run
from tasks.study import StudyParts


def open_model(run: Run, config: ModelConfig, parts: StudyParts) -> Model:
    """The model that a configuration describes; a source model must have been trained before."""
    if isinstance(config, PromptModel):
        return prompted_model(run, config, parts, stop_if_constant=not run.go_on)
    if isinstance(config, MlflowModel):
        from storage.mlflow_model import MlflowAnswerer  # seconds, which studies without one need not spend

        return MlflowAnswerer(config)
    if not isinstance(config, TrainedModel):
        return build_model(config, run.folder, parts.surrogate.device)
    from fute.train.trained import load_trained  # torch and scikit-learn, which the others may do without

    store = run.open_store()
    folder, features_of = store.weights_folder(trained_ref(run, config, parts)), partial(resources.features, store)
    return load_trained(folder, config, base_dir=run.folder, surrogate_config=parts.surrogate, features_of=features_of)


def trained_ref(run: Run, config: TrainedModel, parts: StudyParts) -> str:
    """id@fingerprint of a source model, known before it is trained."""
    dataset = parts.datasets[str(config.dataset)]
    backbone = backbone_identity(config, parts.surrogate, run.folder)
    fingerprint = recipe_fingerprint(config, dataset.ref.rpartition("@")[2], backbone, run.seed)
    return f"{config.id}@{fingerprint}"
