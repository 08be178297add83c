"""Several models, one after the other, for methods that share nothing between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fute.errors import FuteError
from fute.types import Outputs, TaskEmbedding


def one_by_one(make: Callable[[Outputs], TaskEmbedding], outputs: Sequence[Outputs]) -> list[TaskEmbedding | FuteError]:
    """Each model's vector, or why it has none: one that fails does not stop the others."""
    results: list[TaskEmbedding | FuteError] = []
    for each in outputs:
        try:
            results.append(make(each))
        except FuteError as exc:
            results.append(exc)
    return results
