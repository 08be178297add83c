"""Real tasks and pools of the shared data, read and sampled as any study's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.config import DatasetConfig, PoolConfig
from fute.data.ingest import ingest
from fute.data.pool import build_pool
from fute.data.sampling import generator
from fute.types import Dataset, Pool, Split, TextTable

MAX_ROWS = 1900
"""Rows of a task, a stratified sample of its training split."""
MODEL_SHARE, DATASET_SHARE = 0.37, 0.37  # the rest measures accuracy
SPLITS = ("train", "validation", "test")
EVERYTHING = 10**9


@dataclass(frozen=True, eq=False)
class Task:
    """A task's sampled rows. `family` is the manifest's: sentiment, topic ..."""

    id: str
    family: str
    dataset: Dataset

    @property
    def inputs(self) -> TextTable:
        return self.dataset.train.inputs

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.dataset.train.targets


@dataclass(frozen=True, eq=False)
class Rows:
    """Disjoint rows of a task: the models are trained on one part, the dataset embedded from another."""

    model: NDArray[np.intp]
    dataset: NDArray[np.intp]
    held_out: NDArray[np.intp]


def manifest(shared: Path) -> dict[str, dict[str, Any]]:
    """Task id -> its entry."""
    return {task["id"]: task for task in json.loads((shared / "data/MANIFEST.json").read_text())["tasks"]}


def task_lists(shared: Path) -> tuple[list[str], list[str]]:
    """The 29 tasks that all three architectures learn, and all 66 that were tried."""
    lists = json.loads((shared / "reference/retrieval_tasks.json").read_text())
    return lists["learnable"], lists["tried"]


def read_task(shared: Path, entry: dict[str, Any], *, max_rows: int = MAX_ROWS, splits: Sequence[str] = ()) -> Task:
    """The training rows, or those of more splits, always by the seed 0."""
    first, *second = [column for column in entry["text_columns"] if column != "label"]
    config = DatasetConfig.model_validate(
        {
            "id": entry["id"],
            "data": {"files": {split: f"tasks/{entry['id']}/{split}.parquet" for split in splits or ["train"]}},
            "text": first,
            "text_pair": second[0] if second else None,
            "label_names": entry["label_names"],
            "max_rows": max_rows,
            "max_eval_rows": EVERYTHING,
        }
    )
    return Task(entry["id"], entry["family"], ingest(config, shared / "data", seed=0))


def split_rows(task: Task, seed: int) -> Rows:
    order = generator(seed, "benchmark split", task.id).permutation(len(task.inputs))
    first = int(MODEL_SHARE * len(order))
    second = first + int(DATASET_SHARE * len(order))
    return Rows(order[:first], order[first:second], order[second:])


def labelled_rows(task: Task, rows: NDArray[np.intp]) -> Dataset:
    """Some rows of a task as a dataset of their own."""
    split = Split(task.inputs.take(rows), task.labels[rows])
    return Dataset(task.id, "classification", {"train": split}, task.dataset.fingerprint, task.dataset.label_names)


def real_pool(
    shared: Path, kind: str, seed: int, tasks: Sequence[Task], *, rows: int = 3060, per_source: int | None = None
) -> Pool:
    """About 3,000 texts from the unlabelled sources, or so many.

    loose: rows that the tasks were sampled to are left out. strict: all rows of all splits of the tasks are, and so
    whole sources that were made from them; more rows of the others make up for it.

    Args:
        per_source: rows of a source at most; by default as many as 3,000 need.
    """
    strict = kind == "strict"
    config = PoolConfig.model_validate(
        {
            "sources": [{"data": {"files": "unlabeled/*.parquet"}, "text_pair": "text_pair"}],
            "rows_per_source": per_source or (22 if strict else 15),
            "max_rows": rows,
        }
    )
    entries = manifest(shared)
    evaluated = (
        (read_task(shared, entries[t.id], max_rows=EVERYTHING, splits=SPLITS) for t in tasks) if strict else iter(tasks)
    )
    return build_pool(config, shared / "data", seed, [task.dataset for task in evaluated])
