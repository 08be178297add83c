"""When to stop training, and which prefix to keep."""

from __future__ import annotations

import math

from torch import Tensor


class EarlyStop:
    """Remembers the best prefixes, and says when too many passes brought none that are better."""

    def __init__(self, patience: int) -> None:
        self.lowest = math.inf
        self.best: Tensor | None = None
        self._patience = patience
        self._since = 0

    def after(self, loss: float, prefix: Tensor) -> bool:
        """Whether to stop."""
        self._since += 1
        if loss < self.lowest:
            self.lowest, self.best, self._since = loss, prefix.detach().cpu().clone(), 0
        return self._since >= self._patience
