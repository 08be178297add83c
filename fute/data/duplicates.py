"""Rows that stand twice in a split, and rows of one split that also stand in another."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fute.data.normalise import normalise, normalise_all
from fute.types import TextTable


def normalised(inputs: TextTable) -> TextTable:
    """The same inputs with every text in its normalised form; rows of a table as they are."""
    if inputs.columns is not None:
        return inputs
    if inputs.pairs is None:
        return TextTable(normalise_all(inputs.texts))
    return TextTable(normalise_all(inputs.texts), [p if p is None else normalise(p) for p in inputs.pairs])


def keys_of(inputs: TextTable) -> list[Hashable]:
    """A key for each whole input; a row without a second text has the same key in any table."""
    if inputs.pairs is None:
        return list(inputs.texts)
    return [t if p is None else (t, p) for t, p in zip(inputs.texts, inputs.pairs, strict=True)]


def repeated(keys: Sequence[Hashable]) -> NDArray[np.bool_]:
    """(n,) rows whose key stood in an earlier row."""
    seen: set[Hashable] = set()
    again = np.zeros(len(keys), dtype=bool)
    for row, key in enumerate(keys):
        again[row] = key in seen
        seen.add(key)
    return again


def conflicting(keys: Sequence[Hashable], targets: NDArray[Any]) -> int:
    """Rows whose input stands elsewhere in the split with another target."""
    first: dict[Hashable, Any] = {}
    in_conflict: set[Hashable] = set()
    labels = [tuple(t) if isinstance(t, list) else t for t in targets.tolist()]
    for key, label in zip(keys, labels, strict=True):
        if first.setdefault(key, label) != label:
            in_conflict.add(key)
    return sum(key in in_conflict for key in keys) if in_conflict else 0


def shared(keys: Sequence[Hashable], others: Sequence[Hashable]) -> int:
    """Rows whose key is among the others'."""
    known = set(others)
    return sum(key in known for key in keys)
