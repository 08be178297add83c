"""Logistic regression kept as arrays instead of a pickle, and rebuilt to give exactly the same probabilities."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from fute.types import Floats

Arrays = dict[str, NDArray[np.generic]]


def fit_linear(features: object, targets: NDArray[np.int64], *, strength: float) -> tuple[LogisticRegression, bool]:
    """Fit; also whether the optimiser converged. `strength` is C, the inverse of the L2 penalty."""
    model = LogisticRegression(C=strength, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told by the second value instead
        model.fit(features, targets)
    return model, bool(model.n_iter_.max() < model.max_iter)


def linear_to_arrays(model: LogisticRegression) -> Arrays:
    # safetensors writes an array's memory as it lies, and scikit-learn's coefficients lie column by column.
    arrays = {"coef": model.coef_, "intercept": model.intercept_, "classes": model.classes_}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def linear_from_arrays(arrays: Arrays) -> LogisticRegression:
    model = LogisticRegression()
    model.coef_, model.intercept_, model.classes_ = arrays["coef"], arrays["intercept"], arrays["classes"]
    model.n_features_in_ = model.coef_.shape[1]
    return model


def class_probabilities(model: LogisticRegression, features: object, n_classes: int) -> Floats:
    """(n, n_classes) float32; a class without a training row has probability zero."""
    found = model.predict_proba(features)
    probabilities = np.zeros((len(found), n_classes), np.float32)
    probabilities[:, model.classes_] = found
    return probabilities
