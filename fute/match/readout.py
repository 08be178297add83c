"""What models would answer on other texts, from what they answered on the pool.

Kernel ridge regression to log-probabilities, in closed form, with the ridge whose left-out rows are explained best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.special import softmax

from fute.methods.crosscov.whitening import Doubles
from fute.types import Floats, Outputs

RIDGES = (3e-3, 3e-2, 0.3)
"""Tried, as multiples of the kernel's mean diagonal, which is 1."""
LEAST_PROBABILITY = 1e-3
"""Smaller ones count as this: the logarithm would make much of what a model hardly ever says."""


@dataclass(frozen=True, eq=False)
class ReadOut:
    """One model's answers as a function of a text's kernel with the pool.

    Attributes:
        weights: (n, c).
        offset: (c,) mean log-probabilities.
        explained: share of the variance of the log-probabilities that is explained on rows left out of the fit; no more
            than 0 where nothing is.
        agreement: share of the answered rows, each left out of the fit, whose most probable class is found, on a scale
            from 0, what always saying the model's most frequent class finds, to 1, all; below 0 where it finds less.
    """

    weights: Doubles
    offset: Doubles
    explained: float
    agreement: float

    def answers(self, kernel: Doubles) -> Doubles:
        """(m, c) log-probabilities, up to a constant of each row, of texts with this (m, n) kernel with the pool."""
        return kernel @ self.weights + self.offset

    def probabilities(self, kernel: Doubles) -> Doubles:
        """(m, c), as `answers`."""
        found: Doubles = softmax(self.answers(kernel), axis=1)
        return found


def log_probabilities(values: Floats) -> Doubles:
    """(n, c), each row with mean 0."""
    logs = np.log(np.maximum(values.astype(np.float64), LEAST_PROBABILITY))
    return logs - logs.mean(axis=1, keepdims=True)


def read_out(kernel: Doubles, models: Sequence[Outputs]) -> list[ReadOut]:
    """Read-outs of models that answered the n rows of a pool with classes.

    A row without an answer says nothing: it counts as the mean of the others.

    Args:
        kernel: (n, n) of the pool.
        models: their outputs, probabilities or labels.
    """
    centred, offsets = [], []
    for outputs in models:
        logs, there = log_probabilities(outputs.values), outputs.answered_mask
        offsets.append(logs[there].mean(axis=0))
        centred.append(np.where(there[:, None], logs - offsets[-1], 0.0))
    best: list[ReadOut | None] = [None] * len(models)
    for ridge in RIDGES:
        inverse = scipy.linalg.inv(kernel + ridge * np.eye(len(kernel)), check_finite=False)
        diagonal = np.diag(inverse)[:, None]
        for i, (rest, offset, outputs) in enumerate(zip(centred, offsets, models, strict=True)):
            weights = inverse @ rest
            there = outputs.answered_mask
            # By how much each row is missed by a fit to all others, without fitting again.
            missed = (weights / diagonal)[there]
            explained = 1.0 - float((missed**2).sum() / max((rest**2).sum(), 1e-300))
            before = best[i]
            if before is None or explained > before.explained:
                found = (rest[there] - missed + offset).argmax(axis=1)
                said = outputs.values[there].argmax(axis=1)
                best[i] = ReadOut(weights, offset, explained, beyond_chance(found, said))
    return [found for found in best if found is not None]


def beyond_chance(found: NDArray[np.intp], said: NDArray[np.intp]) -> float:
    """How often two are the same, from 0, what always saying the most frequent finds, to 1."""
    often = np.bincount(said).max() / len(said)
    return float(((found == said).mean() - often) / max(1 - often, 1 / len(said)))
