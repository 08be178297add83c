"""Which rows a source model learns from and which ones it is scored on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fute.data.sampling import generator, stratified_sample
from fute.errors import ModelError
from fute.types import Dataset, Split

KEPT_ASIDE = 0.2
"""Share of the training rows kept aside where a dataset has no other split."""


def training_and_held_out(dataset: Dataset, seed: int, max_rows: int | None = None) -> tuple[Split, Split, str]:
    """Training rows, held-out rows, and where those come from: test, else validation, else kept aside from train.

    Args:
        max_rows: train on a seeded, stratified sample of so many rows.

    Raises:
        ModelError: fewer than two classes left to learn.
    """
    train, name = dataset.train, next((name for name in ("test", "validation") if name in dataset.splits), "train")
    rng = generator(seed, "training rows", dataset.fingerprint)
    if name == "train":
        aside = stratified_sample(train.targets, max(1, round(KEPT_ASIDE * len(train))), rng)
        held_out = take(train, aside)
        train = take(train, np.setdiff1d(np.arange(len(train)), aside))
    else:
        held_out = dataset.splits[name]
    if max_rows is not None and max_rows < len(train):
        train = take(train, stratified_sample(train.targets, max_rows, rng))
    if len(np.unique(train.targets)) < 2:
        raise ModelError(
            f"{dataset.id}: the {len(train)} training rows are all of one class; give rows of two classes at least"
        )
    return train, held_out, name


def take(split: Split, rows: NDArray[np.integer]) -> Split:
    return Split(split.inputs.take(rows), split.targets[rows])
