"""Fine-tuning all weights of a pretrained transformer as a sequence classifier."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from fute.config import TrainedModel, TransferConfig, TransformersModel
from fute.data.sampling import generator
from fute.errors import ModelError, SurrogateError
from fute.models.encoding import encode, pad
from fute.models.transformers_classifier import TransformersClassifier
from fute.seeding import seeded
from fute.surrogate.pretrained import open_pretrained
from fute.surrogate.source import Source
from fute.types import Split

logger = logging.getLogger(__name__)

FOLDER = "model"
WARM_UP = 0.1
"""Share of the steps over which the learning rate climbs, before it falls linearly to zero."""
WEIGHT_DECAY = 0.01
MAX_GRADIENT_NORM = 1.0
BATCHES_PER_BUCKET = 32
"""Batches whose rows are sorted by length among themselves: little padding, yet every pass has other batches."""


def finetuned_classifier(folder: Path, model_id: str, max_tokens: int, device: str) -> TransformersClassifier:
    """The classifier that `finetune` saved into a folder."""
    saved = TransformersModel(kind="transformers", id=model_id, model=FOLDER, max_tokens=max_tokens)
    return TransformersClassifier(saved, folder.resolve(), device=device)


def finetune(
    train: Split,
    label_names: tuple[str, ...],
    config: TrainedModel,
    source: Source,
    folder: Path,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> dict[str, float]:
    """Fine-tune and save with save_pretrained; return losses.

    AdamW, linear warm-up and decay, gradients clipped, batches of rows of like length. The same seed on the same CPU
    gives the same weights bit for bit, also beside other trainings: one trains at a time (fute.seeding).

    Raises:
        ModelError: the backbone cannot be loaded, or the loss is no longer finite.
    """
    with seeded(seed):
        model, tokenizer = _load_backbone(source, label_names)
        model.to(device)
        fitted = fit_classifier(model, tokenizer, train, config, seed=seed, device=device, dtype=dtype)
        model.eval().save_pretrained(folder / FOLDER)
        tokenizer.save_pretrained(folder / FOLDER)
    return fitted


def fit_classifier(
    model: Any,
    tokenizer: Any,
    train: Split,
    config: TrainedModel | TransferConfig,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> dict[str, float]:
    """Train all weights of a classifier that is on its device; return losses. Call it inside `seeded`.

    Args:
        dtype: of the forward pass; weights and optimiser stay float32. With bfloat16 the optimiser is the fused one
            as well: together about three times as fast on CPUs that have it, and rounded otherwise.

    Raises:
        ModelError: the loss is no longer finite.
    """
    model.train()
    epochs, batch_size = config.epochs, config.batch_size
    encoded = encode(tokenizer, train.inputs, config.max_tokens)
    targets = torch.from_numpy(train.targets.astype(np.int64))
    n_steps = epochs * -(-len(train) // batch_size)
    low_precision = dtype != torch.float32
    optimizer = torch.optim.AdamW(_parameter_groups(model), lr=config.learning_rate, fused=low_precision or None)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, n_steps))
    rng = generator(seed, "fine-tuning")
    losses: list[float] = []
    for _ in range(epochs):
        for rows in length_buckets(encoded.lengths, batch_size, rng):
            batch = pad(tokenizer, encoded, rows, device)
            with torch.autocast(device.type, dtype, enabled=low_precision):
                logits = model(**batch).logits
            loss = torch.nn.functional.cross_entropy(logits.float(), targets[rows].to(device))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                raise ModelError(
                    f"the loss became {losses[-1]} at step {len(losses)} of {n_steps} with learning rate "
                    f"{config.learning_rate}; give a smaller learning_rate"
                )
    last = losses[-(n_steps // epochs) :]
    return {
        "first_loss": losses[0],
        "last_epoch_loss": float(np.mean(last)),
        "steps": float(n_steps),
        "n_truncated": float(encoded.n_truncated),
    }


def length_buckets(lengths: NDArray[np.int64], batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """One pass over all rows, each once, in batches of like length drawn anew each time."""
    order = rng.permutation(len(lengths))
    bucket = batch_size * BATCHES_PER_BUCKET
    batches: list[NDArray[np.intp]] = []
    for start in range(0, len(order), bucket):
        rows = order[start : start + bucket]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    yield from (batches[i] for i in rng.permutation(len(batches)))


def _rate(step: int, n_steps: int) -> float:
    """Share of the peak learning rate at a step (from 0)."""
    warm_up = max(1, round(WARM_UP * n_steps))
    return min((step + 1) / warm_up, max(0.0, (n_steps - step) / max(1, n_steps - warm_up)))


def _parameter_groups(model: Any) -> list[dict[str, Any]]:
    # Biases and norm weights are vectors; pulling them towards zero only hurts.
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]


def _load_backbone(source: Source, label_names: tuple[str, ...]) -> tuple[Any, Any]:
    """A new head, drawn from the global generator, on pretrained weights."""
    try:
        model, tokenizer, missing = open_pretrained(
            source,
            AutoModelForSequenceClassification,
            what="a backbone for fine-tuning",
            needs="a family with sequence classifiers, safetensors weights and a tokenizer",
            id2label=dict(enumerate(label_names)),
            label2id={name: i for i, name in enumerate(label_names)},
            problem_type="single_label_classification",
            seed=None,
            ignore_mismatched_sizes=True,  # the head of another task; its own classes do not matter here
        )
    except SurrogateError as exc:
        raise ModelError(str(exc)) from exc
    prefix = model.base_model_prefix + "."
    missing = [key for key in missing if key.startswith(prefix) and ".pooler." not in key]
    if missing:
        raise ModelError(f"{source.name} lacks {len(missing)} weights of its backbone, {missing[0]} for one")
    return model, tokenizer
