"""What every method asks of a dataset's labels before it reads a task from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.errors import MethodError
from fute.types import Dataset

ROUNDING = 1e-6
"""Numbers that differ by less than this share of the largest are one number: a few steps of float32."""


def check_labels(dataset: Dataset) -> None:
    """Refuse training rows that teach nothing. That labels are what the task needs, `ingest` has seen to.

    Raises:
        MethodError: fewer than two rows, one class or value only, or class ids out of range.
    """
    labels, n = dataset.train.targets, len(dataset.train)
    if n < 2:
        raise MethodError(f"dataset {dataset.id}: {n} rows; give two at least, of different labels")
    if dataset.task == "regression" and not varying(labels[:, None]).any():
        raise MethodError(f"dataset {dataset.id}: one value only in all {n} rows; there is nothing to learn from them")
    if dataset.task != "classification":
        return
    n_classes = int(labels.max()) + 1 if dataset.label_names is None else len(dataset.label_names)
    if labels.min() < 0 or labels.max() >= n_classes:  # -1 would count as the last class
        raise MethodError(
            f"dataset {dataset.id}: class ids {labels.min()} to {labels.max()} for {n_classes} classes; "
            "number the classes from 0"
        )
    if labels.min() == labels.max():
        raise MethodError(f"dataset {dataset.id}: all {n} rows have class {labels[0]}; give two classes or more")


def varying(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which columns of (n, c) numbers hold more than one value, rounding aside: (c,)."""
    wide = values.astype(np.float64)
    return np.ptp(wide, axis=0) > ROUNDING * np.abs(wide).max(axis=0)
