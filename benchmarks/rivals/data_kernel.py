"""Data kernel perspective space: distances of the models' answers, scaled to a few dimensions.

Helm et al. 2024 (arXiv 2410.01106): a model is the matrix of its mean encoded answers to n inputs; the distance of two
is the Frobenius norm of the difference, and classical multidimensional scaling gives coordinates. A classifier's mean
answer is here the mean of its classes' encoded names by their probabilities. Of datasets it says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
DIMENSION = 16


def distances(probabilities: Sequence[Doubles], texts: Sequence[Doubles]) -> Doubles:
    """(m, m) root mean squared distances of mean answers over the inputs.

    Args:
        probabilities: of each model, (n, answers).
        texts: of each model, (answers, width) encoded.
    """
    m, n = len(texts), len(probabilities[0])
    # ||P E - Q F||² = <P'P, EE'> ... needs products of a few classes only, never (n, width) answers.
    inner = np.empty((m, m))
    for i in range(m):
        for j in range(i, m):
            inner[i, j] = inner[j, i] = ((probabilities[i].T @ probabilities[j]) * (texts[i] @ texts[j].T)).sum() / n
    own = np.diag(inner)
    return np.sqrt(np.maximum(own[:, None] + own - 2 * inner, 0.0))


def perspectives(apart: Doubles, dim: int = DIMENSION) -> Doubles:
    """(m, dim) coordinates with such distances, as near as so few dimensions allow."""
    centring = np.eye(len(apart)) - 1 / len(apart)
    values, vectors = np.linalg.eigh(-0.5 * centring @ apart**2 @ centring)
    values, vectors = values[::-1][:dim], vectors[:, ::-1][:, :dim]
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
