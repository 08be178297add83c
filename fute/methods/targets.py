"""What a prefix is trained towards: class probabilities or standardised numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.errors import MethodError
from fute.types import Dataset, Floats, Outputs


@dataclass(frozen=True, eq=False)
class Targets:
    """What the head must say of n inputs.

    Attributes:
        values: (n, c) float32: rows that sum to one where `is_distribution`, else columns of mean 0 and deviation 1.
        is_distribution: trained by cross-entropy; else by squared error.
    """

    values: Floats
    is_distribution: bool

    def take(self, rows: NDArray[np.integer]) -> Targets:
        return Targets(self.values[rows], self.is_distribution)


def dataset_targets(dataset: Dataset, rows: NDArray[np.integer]) -> Targets:
    """The labels of some training rows.

    Raises:
        MethodError: span answers, class ids out of range, or one value only.
    """
    labels = dataset.train.targets[rows]
    if dataset.task == "classification":
        names = dataset.label_names
        n_classes = len(names) if names is not None else int(dataset.train.targets.max()) + 1
        if labels.min() < 0 or labels.max() >= n_classes:
            raise MethodError(
                f"dataset {dataset.id}: class ids {labels.min()} to {labels.max()} for {n_classes} classes; "
                "number the classes from 0"
            )
        if len(np.unique(labels)) < 2:
            raise MethodError(
                f"dataset {dataset.id}: all {len(rows)} rows have class {labels[0]}; give two classes or more"
            )
        return Targets(np.eye(n_classes, dtype=np.float32)[labels], is_distribution=True)
    if dataset.task == "regression":
        return Targets(_standardised(labels[:, None], f"dataset {dataset.id}"), is_distribution=False)
    raise MethodError(
        f"dataset {dataset.id}: tupate does not take {dataset.task} yet; use a classification or regression set"
    )


def output_targets(outputs: Outputs, rows: NDArray[np.integer]) -> Targets:
    """What a model answered on some rows of the pool.

    Raises:
        MethodError: the same answer for all of these rows.
    """
    values = outputs.values[rows]
    if np.ptp(values, axis=0).max() <= 1e-7:
        raise MethodError(f"the model gave the same answer for all {len(rows)} rows used; raise max_rows")
    if outputs.kind in ("probabilities", "labels"):
        positive = np.clip(values, 0, None)  # validate() lets rounding errors below zero pass
        return Targets(positive / positive.sum(axis=1, keepdims=True), is_distribution=True)
    return Targets(_standardised(values, "the outputs"), is_distribution=False)


def _standardised(values: NDArray[Any], what: str) -> Floats:
    """Columns of mean 0 and deviation 1; columns of one value only are left out, for they say nothing."""
    wide = values.astype(np.float64)
    wide = wide[:, np.ptp(wide, axis=0) > 0]
    if wide.shape[1] == 0:
        raise MethodError(f"{what}: one value only in all {len(values)} rows; there is nothing to learn from them")
    return ((wide - wide.mean(axis=0)) / wide.std(axis=0)).astype(np.float32)
