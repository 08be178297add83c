"""An order of a dataset's rows that follows from what they say, not from how they were given."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np

from fute.types import Dataset, Split


def in_an_order_of_its_own(dataset: Dataset) -> Dataset:
    """The same training and validation rows, in an order that looks random but follows from their texts.

    Rows are sampled, held out and put into batches by their number, so without this a dataset whose rows are shuffled
    would get another vector. A pool needs none: its order is part of what it is.
    """
    ordered = {name: _ordered(split) for name, split in dataset.splits.items() if name in ("train", "validation")}
    return replace(dataset, splits={**dataset.splits, **ordered})


def _ordered(split: Split) -> Split:
    pairs = split.inputs.pairs or [None] * len(split)

    def key(row: int) -> tuple[bytes, list[float]]:
        text = hashlib.sha256(json.dumps([split.inputs.texts[row], pairs[row]]).encode()).digest()
        # Only between rows of one text: the order of classes, or a unit, must not reach the others.
        return text, np.atleast_1d(split.targets[row]).tolist()

    rows = np.array(sorted(range(len(split)), key=key), dtype=np.intp)
    return Split(split.inputs.take(rows), split.targets[rows])
