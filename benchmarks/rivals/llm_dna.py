"""LLM DNA: what a model answers, as texts, through a random projection.

Wu et al. 2025 (arXiv 2509.24496): every answer goes through a sentence encoder, the vectors of all inputs are put one
after the other, and a Gaussian matrix takes them to a few dimensions. A classifier's answer is here the name of its
most probable class. Of datasets it says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
DIMENSION = 128


def dna(answers: Sequence[NDArray[np.intp]], texts: Sequence[Doubles], seed: int, dim: int = DIMENSION) -> Doubles:
    """(m, dim) of m models.

    Args:
        answers: of each model, (n,) the number of its answer to each input.
        texts: of each model, (answers, width) its possible answers, encoded.
    """
    rng = np.random.default_rng(seed)
    width = texts[0].shape[1]
    found = np.zeros((len(answers), dim))
    for row in range(len(answers[0])):  # the matrix is drawn input by input: all of it would not fit
        said = np.stack([encoded[answer[row]] for answer, encoded in zip(answers, texts, strict=True)])
        found += said @ rng.standard_normal((width, dim))
    return found / np.sqrt(dim)
