"""SPELL: the prompt that reads most naturally to the model. Needs an endpoint that tells how probable a prompt is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fute.errors import OutputsError
from fute.select.candidates import Doubles


def spell(perplexities: NDArray[np.floating]) -> Doubles:
    """(m,) minus the mean perplexity of each prompt over its inputs; higher is to be preferred.

    Args:
        perplexities: (m, n) of m prompts filled in with n inputs, input included and answer not, as
            `PromptedModel.perplexities` gives them; NaN where a prompt was not asked.

    Raises:
        OutputsError: a prompt without any.

    Source: Gonen et al. 2022, Demystifying Prompts in Language Models via Perplexity Estimation, arXiv 2212.04037,
    section 2.
    """
    known = np.isfinite(perplexities)
    without = np.flatnonzero(~known.any(axis=1))
    if len(without):
        raise OutputsError(f"candidate {without[0]} has no perplexity of any input; SPELL averages over at least one")
    return -np.where(known, perplexities, 0.0).sum(axis=1).astype(np.float64) / known.sum(axis=1)
