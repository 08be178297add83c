"""Logistic regression on the frozen backbone's mean-pooled features, standardised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression

from fute.train.linear import class_probabilities, fit_linear, linear_from_arrays, linear_to_arrays
from fute.types import Features, Floats, TextTable

WEIGHTS = "weights.safetensors"
STRENGTH = 0.01
"""C of the regression. Hundreds of standardised features on a few hundred rows fit themselves perfectly at 1; of 0.001
to 1 this was best on six public tasks (600 rows each) and within 0.01 of the best on the demo's nine (240 rows)."""

DEAD = 1e-4
"""Features whose spread is below this share of the median spread say nothing: MiniLM has three, constant but for
rounding, and dividing by their spread would turn rounding into signal."""


@dataclass(frozen=True, eq=False)
class ProbeClassifier:
    """Attributes:
    features: of the backbone, (n, width).
    mean, scale: (width,) float64, of the training rows.
    """

    features: Features
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    regression: LogisticRegression
    n_classes: int

    def probabilities(self, table: TextTable) -> Floats:
        standardised = (self.features(table) - self.mean) / self.scale
        return class_probabilities(self.regression, standardised, self.n_classes)

    def save(self, folder: Path) -> None:
        arrays = {"mean": self.mean, "scale": self.scale, **linear_to_arrays(self.regression)}
        save_file(arrays, folder / WEIGHTS)


def fit_probe(
    inputs: TextTable, targets: NDArray[np.int64], n_classes: int, features: Features
) -> tuple[ProbeClassifier, dict[str, float]]:
    """Fit on training rows; also what is worth telling about it."""
    rows = features(inputs).astype(np.float64)
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale[scale <= DEAD * np.median(scale)] = np.inf  # which makes them zero
    regression, converged = fit_linear((rows - mean) / scale, targets, strength=STRENGTH)
    metrics = {"converged": float(converged), "n_features": float(rows.shape[1])}
    return ProbeClassifier(features, mean, scale, regression, n_classes), metrics


def load_probe(folder: Path, n_classes: int, features: Features) -> ProbeClassifier:
    arrays = load_file(folder / WEIGHTS)
    mean, scale = arrays.pop("mean"), arrays.pop("scale")
    return ProbeClassifier(features, mean, scale, linear_from_arrays(arrays), n_classes)
