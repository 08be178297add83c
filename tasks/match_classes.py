"""Which stored model tells two labels apart, and by which of its classes: `fute match FILE --class A B`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fute.errors import DataError
from fute.match.accuracy import SEEN_IN_PAIRS, Accuracy
from fute.match.by_class import CHANCE, tell_apart
from storage.store import Store
from tasks.match import UNSEEN, class_names, features_of, outputs_of, read_outs, space_of, target_of, unread
from tasks.match_target import FEWEST_A_LABEL, Columns, labelled_part, of_classes

EVERY = 10**9
"""Rows that are read: a sample of them might hold few of two labels."""


@dataclass(frozen=True)
class Teller:
    """One model and two labels.

    Attributes:
        accuracy: None where nothing can be vouched for; `unknown` then says why.
        classes: its class that stands for the first label, and the one for the second.
        agreement: of the read-out with the model on the pool (`ReadOut.agreement`).
    """

    model: str
    kind: str
    accuracy: Accuracy | None = None
    classes: tuple[str, str] | None = None
    agreement: float | None = None
    unknown: str | None = None


@dataclass(frozen=True)
class ByClass:
    """Attributes:
    texts: of each of the two labels.
    models: the best first, those of whom nothing is known last.
    """

    target: str
    labels: tuple[str, ...]
    texts: tuple[int, ...]
    space: str
    pool: str
    models: tuple[Teller, ...]

    def better(self) -> list[Teller]:
        """Models that tell them apart, not by chance of so many being there."""
        known = [m for m in self.models if m.accuracy]
        return [m for m in known if m.accuracy and m.accuracy.surely_above_chance(len(known))]


def match_classes(
    store: Store, target: str, labels: Sequence[str], columns: Columns, space: str | None, rows: int
) -> ByClass:
    """Every model of a space on the texts of two labels of a dataset of the store or a file. No model is asked.

    Args:
        rows: texts at most, a stratified sample.

    Raises:
        NotInStoreError: no such space, dataset or file; no models.
        DataError: the target has no text of one of the labels, or too few texts.
    """
    found, population = space_of(store, space)
    dataset = of_classes(target, target_of(store, target, columns, EVERY, population)[0], labels, rows)
    split = labelled_part(target, dataset).split
    texts = tuple(np.bincount(split.targets, minlength=2).tolist())
    for label, n in zip(labels, texts, strict=True):
        if n < FEWEST_A_LABEL:
            raise DataError(f"{target} has {n} texts of {label!r}; give at least {FEWEST_A_LABEL} of each label")
    # Texts of two labels are a table of their own, of which the store keeps no features.
    features = features_of(store, json.loads(found["settings"])["surrogate"], [split.inputs])
    embedded = [e for e in population if e.kind == "model"]
    read = read_outs(store.pool(found["pool"]), outputs_of(store, found["pool"], embedded), features)
    kernel = read.kernel.texts(split.inputs, features(split.inputs)) if read.kernel else None
    unlike = kernel is not None and read.unlike(split.inputs, features, kernel)
    models = []
    for model in embedded:
        outputs, out = read.outputs[model.subject], read.found.get(model.subject)
        bare = {"model": model.subject, "kind": model.row["subject_kind"], "agreement": out.agreement if out else None}
        why = unread(outputs, out, unlike)
        if out is None or kernel is None or why is not None:
            models.append(Teller(**bare, unknown=why))
            continue
        names = class_names(outputs)
        told = tell_apart(out.probabilities(kernel), split.targets, out.agreement, _named(names, labels))
        if split.inputs.pairs is not None and told.accuracy.expected < CHANCE + SEEN_IN_PAIRS:
            models.append(Teller(**bare, unknown=UNSEEN))
            continue
        first, second = told.classes
        models.append(Teller(**bare, accuracy=told.accuracy, classes=(names[first], names[second])))
    models.sort(key=lambda m: (m.accuracy is None, -(m.accuracy.expected if m.accuracy else 0.0), m.model))
    return ByClass(target, tuple(labels), texts, found["space"], found["pool"], tuple(models))


def _named(classes: Sequence[str], labels: Sequence[str]) -> tuple[int, int] | None:
    """The classes that are called like the two labels, capitals aside, where there is one each."""
    ours = [name.casefold() for name in classes]
    wanted = [name.casefold() for name in labels]
    if wanted[0] == wanted[1] or any(ours.count(name) != 1 for name in wanted):
        return None
    return ours.index(wanted[0]), ours.index(wanted[1])
