"""How learning rates change while a method trains."""

from __future__ import annotations

import math
from collections.abc import Callable


def warmup_then_decay(n_steps: int, warmup: float) -> Callable[[int], float]:
    """Factor of the learning rate at a step, never zero: it rises over `warmup * n_steps`, then falls linearly."""
    n_warmup = min(n_steps - 1, math.ceil(warmup * n_steps))

    def factor(step: int) -> float:
        if step < n_warmup:
            return (step + 1) / (n_warmup + 1)
        return (n_steps - step) / (n_steps - n_warmup)

    return factor


def batch_for_two_steps(batch_size: int, n_rows: int, epochs: int) -> int:
    """Rows of a batch, so few that there are two steps at least.

    A head starts at zero and so hands no gradient on in the first step: what lies below it first moves in the second.
    """
    return min(batch_size, math.ceil(epochs * n_rows / 2))
