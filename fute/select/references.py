"""Labelled datasets that can speak of a target: those with the candidates' labels, without the target's own texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fute.data.duplicates import normalised
from fute.data.pool import EvaluatedTexts
from fute.select.strength import LabelledTexts
from fute.types import Dataset, Features, Split, TextTable

MIN_ROWS = 16
"""Of a reference, that are left when rows with other labels and rows of the target are taken out."""


def shared_labels(dataset: Dataset, label_names: Sequence[str]) -> list[str]:
    """The dataset's labels that candidates have too, by name; empty for what is no classification."""
    if dataset.task != "classification" or dataset.label_names is None:
        return []
    return [name for name in dataset.label_names if name in label_names]


def labelled_texts(
    dataset: Dataset, label_names: Sequence[str], target: TextTable, features: Features
) -> LabelledTexts | None:
    """A dataset's training rows as a reference; None where it has nothing to say of these labels.

    Rows with other labels are left out, and rows whose text is also a text of the target: what is known of those would
    be its labels.
    """
    names = shared_labels(dataset, label_names)
    if len(names) < 2:
        return None
    known = EvaluatedTexts.of([_unlabelled(target)])
    inputs = dataset.train.inputs
    _, of_target = known.matches(inputs, normalised(inputs))
    to_candidates = np.array([label_names.index(n) if n in names else -1 for n in dataset.label_names or ()])
    labels = to_candidates[dataset.train.targets]
    rows = np.flatnonzero((labels >= 0) & ~of_target)
    if len(rows) < MIN_ROWS or len(set(labels[rows].tolist())) < 2:
        return None
    # Features of the whole table: that is what the store's cache holds.
    return LabelledTexts(dataset.id, features(inputs)[rows], labels[rows])


def _unlabelled(texts: TextTable) -> Dataset:
    return Dataset("target", "classification", {"train": Split(texts, np.zeros(len(texts), np.int64))}, "")
