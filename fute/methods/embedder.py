"""What every method gives: an embedder, ready to make vectors of one space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fute.errors import FuteError
from fute.types import Dataset, Floats, Outputs, TaskEmbedding


class Embedder(ABC):
    """A method g. What else it can do, its settings say before it is made (`fute.settings.MethodSettings`).

    Attributes:
        pseudo_tasks: how many of the pool's own tasks it embeds for the space's frame: what it can afford.
    """

    pseudo_tasks: int

    @abstractmethod
    def dataset(self, dataset: Dataset) -> TaskEmbedding:
        """DTE: from labels."""

    @abstractmethod
    def model(self, outputs: Outputs) -> TaskEmbedding:
        """MTE: from outputs on the pool."""

    def models(self, outputs: Sequence[Outputs]) -> list[TaskEmbedding | FuteError]:
        """MTEs of several models, each its vector or why it has none: one after the other, where nothing is shared."""
        results: list[TaskEmbedding | FuteError] = []
        for each in outputs:
            try:
                results.append(self.model(each))
            except FuteError as exc:
                results.append(exc)
        return results

    def resampler(self, mean: Floats, times: int, seed: int) -> Resampler:
        """How sure similarities in the frame of that mean are; only of methods whose settings have `resamples`."""
        raise NotImplementedError


class Resampler(Protocol):
    """Embeds a subject again, with its rows drawn anew several times; all subjects with the same rows on the same."""

    def dataset(self, dataset: Dataset) -> Resampled: ...

    def model(self, outputs: Outputs) -> Resampled: ...


class Resampled(Protocol):
    """A subject's embeddings, one for each draw of its rows.

    Attributes:
        nbytes: what it takes to keep it.
    """

    @property
    def nbytes(self) -> int: ...

    def cosines(self, other: Any) -> NDArray[np.float64]:
        """(times,) in the frame."""
