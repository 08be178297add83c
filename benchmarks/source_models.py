"""The source models of benchmarks/transfer.py: what they answer on the pool, and what they see in a target's rows.

A source is fine-tuned anew where --cache does not hold it; its held-out score then tells whether it is the one that the
stored transfers started from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from real_tasks import Task, split_rows
from scipy.special import softmax
from transfer import SETTINGS, SHALLOW, find_backbone, source_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fute.data.sampling import generator
from fute.models.encoding import encode, pad
from fute.surrogate.source import Source
from fute.types import Floats, Outputs, Pool, TextTable

BATCH = 64
POOL_ROWS = 1500
"""Of the pool, that a source model is asked about where nothing else is said."""
LABELLED_ROWS = 32
"""Of a target, that LogME, H-score and LEEP ask a source model about: as many as the fine-tuning has."""


@dataclass(frozen=True)
class SourceModel:
    """Attributes:
    layers: of its backbone; None: all of MiniLM's.
    score: held-out accuracy, and that of the most frequent class.
    """

    task: Task
    layers: int | None
    source: Source
    score: dict[str, Any]

    @property
    def key(self) -> str:
        return Path(self.source.location).parent.name + ("" if self.layers is None else f", {self.layers} layers")


def read_source_models(tasks: Sequence[Task], layers: int | None, cache: Path) -> list[SourceModel]:
    """One for each task, trained where it is not there; in float32, which every processor computes alike."""
    settings = (SETTINGS if layers is None else SHALLOW).model_copy(update={"dtype": "float32"})
    backbone = find_backbone(layers, cache)
    record: dict[str, Any] = {"sources": {}}
    found = []
    for task in tasks:
        source = source_model(task, backbone, cache, record, settings)
        found.append(SourceModel(task, layers, source, record["sources"][task.id]))
        print(f"source model {task.id}: {record['sources'][task.id]}", flush=True)
    return found


def pool_outputs(model: SourceModel, pool: Pool, cache: Path, *, rows: int = POOL_ROWS) -> Outputs:
    """Probabilities on so many texts of the pool, asked once; the rest has no answer."""
    asked = np.sort(generator(0, "texts for source models", pool.id).permutation(len(pool))[:rows])
    logits, _ = _seen(model, pool.inputs.take(asked), cache / f"{model.key} on {len(asked)} of {pool.id}.npz")
    answered = np.isin(np.arange(len(pool)), asked)
    values = np.zeros((len(pool), logits.shape[1]), np.float32)
    values[asked] = softmax(logits, axis=1)
    return Outputs("probabilities", values, tuple(model.task.dataset.label_names or ()) or None, answered)


def labelled_rows_of(target: Task) -> NDArray[np.intp]:
    return split_rows(target, 0).dataset[:LABELLED_ROWS]


def seen_in(model: SourceModel, target: Task, cache: Path) -> tuple[Floats, Floats]:
    """(n, classes) logits and (n, width) pooled states on the first LABELLED_ROWS of a target's dataset rows."""
    inputs = target.inputs.take(labelled_rows_of(target))
    return _seen(model, inputs, cache / f"{model.key} on {target.id} {inputs.fingerprint}.npz")


def _seen(model: SourceModel, inputs: TextTable, kept: Path) -> tuple[Floats, Floats]:
    if not kept.is_file():
        network = AutoModelForSequenceClassification.from_pretrained(model.source.location, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(model.source.location, local_files_only=True)
        encoded = encode(tokenizer, inputs, SETTINGS.max_tokens)
        order = np.argsort(encoded.lengths, kind="stable")  # batches of one length pad little
        logits, states = [], []
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                batch = pad(tokenizer, encoded, order[start : start + BATCH], torch.device("cpu"))
                pooled = network.eval().base_model(**batch).pooler_output
                states.append(pooled.numpy())
                logits.append(network.classifier(pooled).numpy())
        back = np.argsort(order)
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_suffix(".unfinished.npz")
        np.savez(unfinished, logits=np.concatenate(logits)[back], states=np.concatenate(states)[back])
        unfinished.rename(kept)
    found = np.load(kept)
    return found["logits"], found["states"]
