"""An order of rows that follows from what they say, not from how they were given.

Rows are sampled, held out and put into batches by their number, so without this a dataset or a pool whose rows are
shuffled would get other vectors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fute.types import Dataset, Pool, Split, TextTable


def in_an_order_of_its_own(dataset: Dataset) -> Dataset:
    """The same training and validation rows, in an order that looks random but follows from their texts.

    Rows of one text are in the order of their targets.
    """
    ordered = {name: _ordered(split) for name, split in dataset.splits.items() if name in ("train", "validation")}
    return replace(dataset, splits={**dataset.splits, **ordered})


def pool_order(pool: Pool) -> NDArray[np.intp]:
    """(n,) the pool's rows in such an order: entry i is the number of the row that comes i-th.

    Rows of one text are in the order of their sources, and those of one source in the order that they were given in.
    """
    return _by_texts(pool.inputs, lambda row: pool.source_ids[row])


def _ordered(split: Split) -> Split:
    rows = _by_texts(split.inputs, lambda row: np.atleast_1d(split.targets[row]).tolist())
    return Split(split.inputs.take(rows), split.targets[rows])


def _by_texts(inputs: TextTable, between: Callable[[int], str | list[float]]) -> NDArray[np.intp]:
    """
    Args:
        between: decides between rows of one text, and only there: the order of classes, or a unit, must not reach the
            others.
    """
    pairs = inputs.pairs or [None] * len(inputs)

    def key(row: int) -> tuple[bytes, str | list[float]]:
        return hashlib.sha256(json.dumps([inputs.texts[row], pairs[row]]).encode()).digest(), between(row)

    return np.array(sorted(range(len(inputs)), key=key), dtype=np.intp)
