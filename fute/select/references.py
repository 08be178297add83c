"""What can speak of a target: labelled datasets with the candidates' labels, without the target's own texts; and models
that are trusted, by their answers to these texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fute.data.duplicates import normalised
from fute.data.pool import EvaluatedTexts
from fute.errors import MethodError
from fute.select.strength import LabelledTexts
from fute.types import Dataset, Features, Outputs, Split, TextTable

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


def trusted_answers(
    model: str, outputs: Outputs, label_names: Sequence[str], target: TextTable, features: Features
) -> LabelledTexts:
    """A trusted model's outputs on the target's texts as a reference.

    Raises:
        MethodError: it does not answer with two of the candidates' labels at least, or with one only.
    """
    known = [name for name in outputs.label_names or () if name in label_names]
    if outputs.kind not in ("probabilities", "labels") or len(known) < 2:
        said = ", ".join(outputs.label_names or ()) or f"{outputs.kind} without label names"
        raise MethodError(
            f"select.trusted: {model} answers with {said}, the candidates with {', '.join(label_names)}; "
            "they must share two labels by name"
        )
    to_candidates = np.array([label_names.index(n) if n in known else -1 for n in outputs.label_names or ()])
    answers = to_candidates[outputs.values.argmax(axis=1)]
    if outputs.answered is not None:
        answers = np.where(outputs.answered, answers, -1)
    rows = np.flatnonzero(answers >= 0)
    if len(set(answers[rows].tolist())) < 2:
        raise MethodError(f"select.trusted: {model} gives the target's texts fewer than two of the candidates' labels")
    return LabelledTexts(model, features(target)[rows], answers[rows], answers)


def _unlabelled(texts: TextTable) -> Dataset:
    return Dataset("target", "classification", {"train": Split(texts, np.zeros(len(texts), np.int64))}, "")
