"""Label probabilities without a prompt's own leaning: one number for each label, added to its log-probability.

A prompt leans towards a label before it has read a text. *Content-free* calibration asks it about inputs that say
nothing, and takes out what it answers to them (Zhao et al. 2021, Calibrate Before Use, arXiv 2102.09690). *Marginal*
calibration takes out what it answers on average over the texts, and so assumes that they have as many of each label.
Both remove a bias that is added to the logits of a label exactly. What each is worth: benchmarks/prompt_calibration.py.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Calibration = Literal["none", "content_free", "marginal"]

CALIBRATION_VERSION = 1
"""Part of the identity of a calibrated model; raise it when the same answers would be calibrated otherwise."""

CONTENT_FREE = ("", "N/A", "[MASK]")
"""Inputs that say nothing (also in place of a second text), as in the papers."""

CERTAIN = 1 - 1e-6
"""A label with more was read from the text of an answer: how sure it is nobody knows, and nothing can be taken out."""

LEAST = 1e-3
"""Smaller probabilities count as this: a label that was not among a few answers is not known to be impossible."""
MAX_ROUNDS = 500
SETTLED = 1e-7

Doubles = NDArray[np.float64]


def content_free_bias(probabilities: NDArray[np.floating]) -> Doubles | None:
    """(c,) to be added to log-probabilities, from the (k, c) answers to content-free inputs; sum 0. None where no
    answer tells how sure it is.

    The mean is of log-probabilities, so that a bias of the logits goes out exactly whatever the inputs.
    """
    known = _graded(probabilities)
    return None if len(known) == 0 else _centred(-_log(known).mean(axis=0))


def marginal_bias(probabilities: NDArray[np.floating]) -> Doubles | None:
    """(c,) to be added to the log-probabilities of (n, c) answers, so that on average no label is more probable than
    another; sum 0. None where no answer tells how sure it is."""
    known = _graded(probabilities)
    if len(known) == 0:
        return None
    given = known.max(axis=0) >= LEAST  # of a label that nobody gave, nothing says how much it should have been
    bias = np.zeros(known.shape[1])
    for _ in range(MAX_ROUNDS):
        shares = np.where(given, calibrated(known, bias).mean(axis=0), 1.0)
        step = np.where(given, -np.log(shares), 0.0)
        step -= step.sum() / max(int(given.sum()), 1) * given
        bias += step
        if np.abs(step).max() < SETTLED:
            break
    return bias


def calibrated(probabilities: NDArray[np.floating], bias: NDArray[np.floating]) -> Doubles:
    """(..., c) probabilities with a bias (c,) added to their logarithms; certain answers, and rows without one (all
    zeros), stay as they are."""
    logits = _log(probabilities) + bias
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    highest = probabilities.max(axis=-1, keepdims=True)
    return np.where((highest > 0) & (highest <= CERTAIN), shares, probabilities)


def _graded(probabilities: Any) -> Doubles:
    values = np.asarray(probabilities, np.float64)
    if values.size == 0:
        return np.zeros((0, 0))
    return values[values.max(axis=1) <= CERTAIN]


def _log(probabilities: NDArray[np.floating]) -> Doubles:
    return np.log(np.maximum(probabilities.astype(np.float64), LEAST))


def _centred(bias: Doubles) -> Doubles:
    return bias - bias.mean()
