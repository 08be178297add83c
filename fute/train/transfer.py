"""One transfer: a source model's encoder under a fresh head, fine-tuned on a few rows of a target and scored there."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score
from transformers import AutoModel, AutoModelForSequenceClassification

from fute.config import TrainedModel, TransferConfig
from fute.data.duplicates import keys_of, normalised
from fute.data.sampling import generator, stratified_sample
from fute.errors import DataError, ModelError, SurrogateError
from fute.fingerprint import fingerprint
from fute.models.encoding import encode, logits_of
from fute.seeding import seeded
from fute.surrogate.pretrained import open_pretrained
from fute.surrogate.source import Source, read_config
from fute.train.finetune import fit_classifier
from fute.train.split import take, training_and_held_out
from fute.types import Dataset, Split

# Raised when the same rows and settings would give another score.
TRANSFER_VERSION = 1
EVAL_BATCH = 64


@dataclass(frozen=True, eq=False)
class TargetRows:
    """What a target is trained and scored on, the same for every source.

    Attributes:
        training: the few rows.
        held_out: the rows that score it.
        n_shared: rows of the target left out because a source is trained on the same text.
    """

    training: Split
    held_out: Split
    label_names: tuple[str, ...]
    n_shared: int = 0

    @property
    def fingerprint(self) -> str:
        parts = [(s.inputs.fingerprint, s.targets.tolist()) for s in (self.training, self.held_out)]
        return fingerprint(rows=parts, label_names=list(self.label_names))


@dataclass(frozen=True)
class Transferred:
    """Attributes:
    accuracy, macro_f1: on the held-out rows.
    majority: accuracy there of the training rows' most frequent class.
    metrics: losses and steps of the fine-tuning.
    """

    accuracy: float
    macro_f1: float
    majority: float
    seconds: float
    metrics: dict[str, float]


def source_recipe(config: TransferConfig, dataset: str) -> TrainedModel:
    """How the source model of a dataset is trained: as a zoo's fine-tuned model, which serves too where it is alike."""
    return TrainedModel(
        kind="trained",
        id=f"finetune/{dataset}",
        dataset=dataset,
        recipe="finetune",
        backbone=config.backbone,
        revision=config.revision,
        epochs=config.source_epochs,
        learning_rate=config.source_learning_rate,
        batch_size=config.batch_size,
        max_tokens=config.max_tokens,
        max_rows=config.source_rows,
    )


def known_texts(datasets: Iterable[Dataset]) -> set[Hashable]:
    """Normalised inputs that models trained on these datasets may have seen."""
    return {key for dataset in datasets for key in keys_of(normalised(dataset.train.inputs))}


def target_rows(
    target: Dataset, *, rows: int, eval_rows: int, seed: int, known: set[Hashable] | None = None
) -> TargetRows:
    """A seeded, stratified draw of a target's few training rows and of its held-out rows.

    Held out is the test split, else validation, else a part of train.

    Args:
        known: inputs that a source is trained on (`known_texts` of the other datasets): left out of both.

    Raises:
        DataError: too few rows left.
        ModelError: the training rows are all of one class.
    """
    training, held_out, name = training_and_held_out(target, seed)
    n_shared = 0
    if known:
        training, dropped = _without(training, known)
        held_out, dropped_too = _without(held_out, known)
        n_shared = dropped + dropped_too
    n_classes = len(np.unique(training.targets))
    if len(training) < rows or rows < n_classes or len(held_out) < 2:
        raise DataError(
            f"{target.id}: {rows} training rows were asked for, and there are {len(training)} of {n_classes} classes, "
            f"and {len(held_out)} held out ({name}), after {n_shared} rows that a source also holds were left out; "
            "give more rows than classes, and no more than there are"
        )
    rng = generator(seed, "transfer rows", target.fingerprint)
    few = take(training, stratified_sample(training.targets, rows, rng))
    # A text that is trained on tells nothing when it is scored.
    held_out, _ = _without(held_out, set(keys_of(normalised(few.inputs))))
    scored = take(held_out, stratified_sample(held_out.targets, eval_rows, rng))
    return TargetRows(few, scored, target.class_names, n_shared)


def _without(split: Split, known: set[Hashable]) -> tuple[Split, int]:
    kept = np.flatnonzero([key not in known for key in keys_of(normalised(split.inputs))])
    return take(split, kept), len(split) - len(kept)


def transfer_fingerprint(start: str, rows: TargetRows, config: TransferConfig, seed: int) -> str:
    """Identity of one transfer, known before it is done.

    Args:
        start: identity of the model that it starts from: a trained model's fingerprint, a pretrained one's revision.
    """
    return fingerprint(
        kind="transfer",
        version=TRANSFER_VERSION,
        start=start,
        rows=rows.fingerprint,
        settings=config.training_settings(),
        seed=seed,
    )


def transfer(
    start: Source, rows: TargetRows, config: TransferConfig, *, seed: int, device: torch.device
) -> Transferred:
    """Fine-tune from a start and score.

    Everything of the start's backbone is taken over (a pooler too), its head is not. The new head, the batches and
    the dropout masks depend on the seed alone, so that two starts differ in their weights and in nothing else. The
    same seed on the same CPU gives the same score, bit for bit.

    Args:
        start: a pretrained model, or the folder of a fine-tuned one.

    Raises:
        ModelError: the start cannot be loaded, or the loss is no longer finite.
    """
    started = time.perf_counter()
    dtype = getattr(torch, config.dtype)
    with seeded(seed):
        model, tokenizer = with_fresh_head(start, rows.label_names, seed)
        model.to(device)
        metrics = fit_classifier(model, tokenizer, rows.training, config, seed=seed, device=device, dtype=dtype)
        held_out = encode(tokenizer, rows.held_out.inputs, config.max_tokens)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = logits_of(model.eval(), tokenizer, held_out, EVAL_BATCH, device)
    truth, predicted = rows.held_out.targets, logits.argmax(axis=1)
    most = np.bincount(rows.training.targets).argmax()
    return Transferred(
        accuracy=float((predicted == truth).mean()),
        macro_f1=float(f1_score(truth, predicted, average="macro", zero_division=0)),
        majority=float((truth == most).mean()),
        seconds=time.perf_counter() - started,
        metrics=metrics,
    )


def with_fresh_head(start: Source, label_names: tuple[str, ...], seed: int) -> tuple[Any, Any]:
    """A sequence classifier with the start's backbone and a head drawn from the seed, and its tokenizer."""
    what = "the start of a transfer"
    needs = "a family with sequence classifiers, safetensors weights and a tokenizer"
    try:
        backbone, tokenizer, missing = open_pretrained(start, AutoModel, what=what, needs=needs)
        settings = read_config(start)
        settings.id2label = dict(enumerate(label_names))
        settings.label2id = {name: i for i, name in enumerate(label_names)}
        settings.problem_type = "single_label_classification"
        settings.pad_token_id = tokenizer.pad_token_id
        torch.manual_seed(seed)  # loading may have drawn, or not: the head must not depend on that
        model = AutoModelForSequenceClassification.from_config(settings, dtype=torch.float32)
    except SurrogateError as exc:
        raise ModelError(str(exc)) from exc
    except (ValueError, KeyError, RuntimeError) as exc:
        raise ModelError(f"{start.name} could not be loaded as {what}; it needs {needs}. The cause: {exc}") from exc
    missing = [key for key in missing if "pooler." not in key]
    if missing:
        raise ModelError(f"{start.name} lacks {len(missing)} weights of its backbone, {missing[0]} for one")
    own = getattr(model, model.base_model_prefix)
    wanted = own.state_dict()
    # A classifier may do without the backbone's pooler (RoBERTa), and never has weights that the backbone lacks.
    own.load_state_dict({name: weights for name, weights in backbone.state_dict().items() if name in wanted})
    return model, tokenizer
