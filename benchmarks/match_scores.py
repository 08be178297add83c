"""Rivals that rank models for a labelled target: LEEP (Nguyen et al. 2020), LogME (You et al. 2021), H-score (Bao et
al. 2019) and its shrunk form (Ibrahim et al. 2022). Each from what models answer on labelled texts; more is better."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
ROUNDS = 20
SETTLED = 1e-4


def leep(probabilities: Doubles, labels: Integers) -> float:
    """Mean log-likelihood of the labels under the empirical predictor of (n, c) class probabilities."""
    hot = np.eye(int(labels.max()) + 1)[labels]
    joint = probabilities.T @ hot / len(labels)  # (c, labels)
    given = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300)
    return float(np.log(np.maximum((probabilities @ given)[np.arange(len(labels)), labels], 1e-300)).mean())


def logme(features: Doubles, labels: Integers) -> float:
    """Mean log-evidence of one Bayesian linear regression a label on (n, d) features, a row."""
    n, d = features.shape
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    squares = s**2
    evidence = []
    for label in np.unique(labels):
        y = (labels == label).astype(np.float64)
        along = u.T @ y
        outside = max(float(y @ y - along @ along), 0.0)
        alpha, beta = 1.0, 1.0
        for _ in range(ROUNDS):
            shrunk = alpha + beta * squares
            gamma = float((beta * squares / shrunk).sum())
            mean = beta * s * along / shrunk
            length = float(mean @ mean)
            missed = outside + float(((alpha / shrunk * along) ** 2).sum())
            before, alpha, beta = alpha / beta, gamma / max(length, 1e-12), (n - gamma) / max(missed, 1e-12)
            if abs(alpha / beta - before) <= SETTLED * before:
                break
        shrunk = alpha + beta * squares
        mean = beta * s * along / shrunk
        missed = outside + float(((alpha / shrunk * along) ** 2).sum())
        determinant = float(np.log(shrunk).sum()) + max(d - len(s), 0) * np.log(alpha)
        evidence.append(
            (d * np.log(alpha) + n * np.log(beta) - determinant - beta * missed - alpha * float(mean @ mean)
             - n * np.log(2 * np.pi)) / (2 * n)
        )  # fmt: skip
    return float(np.mean(evidence))


def h_score(features: Doubles, labels: Integers) -> float:
    """Trace of the features' covariance, inverted, times that of their means by label; for more rows than features."""
    centred = features - features.mean(axis=0)
    covariance = centred.T @ centred / len(centred)
    return float(np.trace(np.linalg.pinv(covariance, rcond=1e-6) @ _between(centred, labels)))


def shrunk_h_score(features: Doubles, labels: Integers) -> float:
    """With both covariances shrunk. Of fewer rows than features the plain one is labels - 1, whatever they are."""
    centred = features - features.mean(axis=0)
    covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
    return float((1 - shrinkage) * np.trace(np.linalg.solve(covariance, _between(centred, labels))))


def _between(centred: Doubles, labels: Integers) -> Doubles:
    shares = np.bincount(labels) / len(labels)
    means = np.stack([centred[labels == k].mean(axis=0) if share else np.zeros(centred.shape[1])
                      for k, share in enumerate(shares)])  # fmt: skip
    return np.asarray((means.T * shares) @ means)
