"""What every method asks of a dataset's labels before it reads a task from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.errors import MethodError
from fute.span_contexts import context_lengths
from fute.spans import NO_ANSWER
from fute.types import Dataset

ROUNDING = 1e-6
"""Numbers that differ by less than this share of the largest are one number: a few steps of float32."""


def check_labels(dataset: Dataset) -> None:
    """Refuse training rows that teach nothing, or whose labels are not what the task needs.

    Raises:
        MethodError: fewer than two rows, one class or value only, class ids out of range, numbers that are not finite,
            or answers outside their contexts.
    """
    n = len(dataset.train)
    if n < 2:
        raise MethodError(f"dataset {dataset.id}: {n} rows; give two at least, of different labels")
    targets = dataset.train.targets
    shape = (n, 2) if dataset.task == "span_qa" else (n,)
    if targets.shape != shape:
        raise MethodError(
            f"dataset {dataset.id}: targets have shape {targets.shape} where {dataset.task} needs {shape}"
        )
    if dataset.task == "regression":
        _check_numbers(dataset, targets)
        return
    if targets.dtype.kind not in "iu":
        raise MethodError(f"dataset {dataset.id}: targets of type {targets.dtype}; give whole numbers")
    if dataset.task == "classification":
        _check_classes(dataset, targets)
    else:
        _check_answers(dataset, targets)


def varying(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which columns of (n, c) numbers hold more than one value, rounding aside: (c,)."""
    wide = values.astype(np.float64)
    return np.ptp(wide, axis=0) > ROUNDING * np.abs(wide).max(axis=0)


def _check_classes(dataset: Dataset, labels: NDArray[Any]) -> None:
    n_classes = int(labels.max()) + 1 if dataset.label_names is None else len(dataset.label_names)
    if labels.min() < 0 or labels.max() >= n_classes:
        raise MethodError(
            f"dataset {dataset.id}: class ids {labels.min()} to {labels.max()} for {n_classes} classes; "
            "number the classes from 0"
        )
    if labels.min() == labels.max():
        raise MethodError(
            f"dataset {dataset.id}: all {len(labels)} rows have class {labels[0]}; give two classes or more"
        )


def _check_numbers(dataset: Dataset, numbers: NDArray[Any]) -> None:
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        raise MethodError(
            f"dataset {dataset.id}: {int(wrong.sum())} of {len(numbers)} targets are NaN or infinite, row "
            f"{int(wrong.argmax())} for one; leave these rows out"
        )
    if not varying(numbers[:, None]).any():
        raise MethodError(
            f"dataset {dataset.id}: one value only in all {len(numbers)} rows; there is nothing to learn from them"
        )


def _check_answers(dataset: Dataset, spans: NDArray[Any]) -> None:
    starts, ends = spans[:, 0], spans[:, 1]
    none = (starts == NO_ANSWER) & (ends == NO_ANSWER)
    inside = (starts >= 0) & (starts < ends) & (ends <= context_lengths(dataset.train.inputs))
    wrong = ~none & ~inside
    if wrong.any():
        row = int(wrong.argmax())
        raise MethodError(
            f"dataset {dataset.id}: {int(wrong.sum())} answers lie outside their contexts, row {row} with "
            f"[{starts[row]}, {ends[row]}) for one; give character offsets, or -1 and -1 for no answer"
        )
