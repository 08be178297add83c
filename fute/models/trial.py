"""A trial before a run: does a model answer a few inputs as its settings say?"""

from __future__ import annotations

import numpy as np

from fute.errors import FuteError, NoAnswersError
from fute.types import Model, TextTable

ROWS = 3
TRIED = ("python", "sklearn", "predictions")
"""Kinds of models that cost next to nothing to ask; the others are checked by their files."""


def trial_fault(model: Model, inputs: TextTable) -> str | None:
    """What a model does wrong with a few inputs; None: nothing. A table of predictions is looked at as a whole.

    Args:
        inputs: the pool's.
    """
    few = inputs if model.kind == "predictions" else trial_rows(inputs)
    try:
        outputs = model.outputs(few)
    except NoAnswersError as exc:
        return str(exc) if few is inputs else None  # it may have answers to others
    except FuteError as exc:
        return str(exc)
    return None if np.isfinite(outputs.values).all() else f"{model.id}: it answered NaN or infinity"


def trial_rows(inputs: TextTable) -> TextTable:
    """A few rows, one with and one without a second text among them where there are such."""
    last = len(inputs) - 1
    pairs = inputs.pairs or [None] * len(inputs)
    paired = next((row for row, pair in enumerate(pairs) if pair is not None), 0)
    single = next((row for row, pair in enumerate(pairs) if pair is None), 0)
    return inputs.take(list(dict.fromkeys([paired, single, last, last // 2, 0]))[:ROWS])
