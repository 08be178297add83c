"""Training a source model on a dataset and keeping it, with its held-out score, in a folder."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score, log_loss

from fute.config import SurrogateConfig, TrainedModel
from fute.errors import ModelError, SurrogateError
from fute.surrogate.device import find_device
from fute.train.backbone import FeaturesOf, backbone_config, backbone_identity, backbone_source, computed_features
from fute.train.finetune import finetune, finetuned_classifier
from fute.train.probe import fit_probe
from fute.train.recipe import recipe_fingerprint, recipe_settings
from fute.train.result import TrainingResult, digest_files, write_card
from fute.train.split import training_and_held_out
from fute.train.tfidf import fit_tfidf
from fute.types import Dataset, Floats, Split

logger = logging.getLogger(__name__)


def train(
    config: TrainedModel,
    dataset: Dataset,
    out_dir: Path,
    *,
    base_dir: Path,
    surrogate_config: SurrogateConfig,
    seed: int,
    features_of: FeaturesOf = computed_features,
) -> TrainingResult:
    """Train a source model, score it on held-out rows, and write it into a folder.

    Held out is the test split, else validation, else a stratified fifth of train that is not trained on.

    Args:
        dataset: a classification.
        out_dir: the model's own folder; made here, and left incomplete where training fails.
        base_dir: the folder that a backbone's relative path starts from.
        features_of: where a probe's backbone features come from; a caller may answer from a cache.

    Raises:
        ModelError: one class only, a backbone that cannot be had, or a loss that diverged.
    """
    backbone = backbone_identity(config, surrogate_config, base_dir)
    identity = recipe_fingerprint(config, dataset.fingerprint, backbone, seed)
    started = time.perf_counter()
    names = dataset.class_names
    training, held_out, held_out_name = training_and_held_out(dataset, seed, config.max_rows)
    out_dir.mkdir(parents=True, exist_ok=True)

    def fit() -> tuple[Floats, dict[str, float]]:
        """Train, save into the folder, and answer the held-out rows."""
        if config.recipe == "tfidf":
            tfidf, metrics = fit_tfidf(training.inputs, training.targets, len(names))
            tfidf.save(out_dir)
            return tfidf.probabilities(held_out.inputs), metrics
        if config.recipe == "probe":
            features = features_of(backbone_config(config, surrogate_config), base_dir)
            probe, metrics = fit_probe(training.inputs, training.targets, len(names), features)
            probe.save(out_dir)
            return probe.probabilities(held_out.inputs), metrics
        source, device = backbone_source(config, surrogate_config, base_dir), find_device(surrogate_config.device)
        metrics = finetune(training, names, config, source, out_dir, seed=seed, device=device)
        saved = finetuned_classifier(out_dir, "finetuned", config.max_tokens, surrogate_config.device)
        return saved.outputs(held_out.inputs).values, metrics

    try:
        probabilities, metrics = fit()
    except (ModelError, SurrogateError) as exc:
        raise ModelError(f"{config.recipe} on {dataset.id}: {exc}") from exc
    score, majority, measured = _scores(probabilities, held_out)
    result = TrainingResult(
        fingerprint=identity,
        recipe=config.recipe,
        settings=recipe_settings(config),
        dataset_id=dataset.id,
        dataset_fingerprint=dataset.fingerprint,
        label_names=names,
        seed=seed,
        score=score,
        majority=majority,
        held_out=held_out_name,
        n_train=len(training),
        n_held_out=len(held_out),
        metrics={**metrics, **measured},
        seconds=time.perf_counter() - started,
        backbone=backbone,
        files=digest_files(out_dir),
    )
    write_card(result, out_dir)
    logger.info("%s on %s: %.3f (majority %.3f)", config.recipe, dataset.id, score, majority)
    return result


def _scores(probabilities: Floats, held_out: Split) -> tuple[float, float, dict[str, float]]:
    """Accuracy, the share of the most frequent label, and other measures on the held-out rows."""
    targets = held_out.targets
    predicted = probabilities.argmax(axis=1)
    majority = float(np.bincount(targets).max() / len(targets))
    classes = list(range(probabilities.shape[1]))
    floored = np.clip(probabilities.astype(np.float64), 1e-7, None)
    metrics = {
        "macro_f1": float(f1_score(targets, predicted, average="macro", zero_division=0)),
        "log_loss": float(log_loss(targets, floored / floored.sum(axis=1, keepdims=True), labels=classes)),
    }
    return float((predicted == targets).mean()), majority, metrics
