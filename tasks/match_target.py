"""The target of a match: a file of texts, with labels or without, or a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from fute.config import Codec, DatasetConfig, Separator
from fute.data.files import columns_of, file_format
from fute.data.formats.base import Dialect
from fute.data.ingest import ingest
from fute.data.sampling import generator, stratified_sample
from fute.did_you_mean import did_you_mean, listed
from fute.errors import DataError
from fute.types import Dataset, Split

PAIR = "text_pair"
"""Column of second texts that is taken where none is named."""
FEWEST_TEXTS = 20
"""Labelled texts, below which an interval would say nothing."""
FEWEST_A_LABEL = 5
"""The same, for each label on average: of fewer, which class goes with it is chance."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """The texts that models are judged on, and the share of them that always answering `most_frequent` gets right."""

    part: str
    split: Split
    names: tuple[str, ...]
    most_frequent: str
    majority: float


class Columns(BaseModel):
    """Columns of a file, and how to read it where it does not say so itself. A label that was not named need not be
    there."""

    text: str = "text"
    text_pair: str | None = None
    label: str | None = None
    separator: Separator | None = None
    encoding: Codec | None = None

    def data(self, path: Path) -> dict[str, Any]:
        """Settings of a `FileSource`."""
        return {"files": str(path.resolve()), "separator": self.separator, "encoding": self.encoding}

    def labelled(self, path: Path) -> bool:
        """Whether a file has labels."""
        return self.label is not None or "label" in self._there(path, [self.text])

    def pair(self, path: Path) -> str | None:
        """The second texts' column: the one that was named, or the one of that name where there is one."""
        return self.text_pair or (PAIR if PAIR in self._there(path, [self.text]) else None)

    def unused(self, path: Path) -> list[str]:
        """Columns that are neither texts nor labels."""
        return [name for name in self._there(path, [self.text]) if name not in (self.text, self.pair(path), self.label)]

    def of(self, path: Path) -> dict[str, str | None]:
        """Settings of a dataset."""
        label = self.label or "label"
        there = self._there(path, [self.text, label])
        if self.text == label:
            raise DataError(f"{label!r} is named as the column of texts and of labels; they are two")
        if label not in there:
            raise DataError(f"{path} has no column {label!r} of labels. Columns there: {listed(there, 30)}")
        return {"text": self.text, "text_pair": self.pair(path), "label": label}

    def _there(self, path: Path, wanted: list[str]) -> list[str]:
        there = columns_of(path, file_format(path), wanted, Dialect(self.separator, self.encoding))
        if self.text not in there:
            raise DataError(
                f"{path} has no column {self.text!r}; --text names the one of the texts. Columns there: "
                f"{listed(there, 30)}"
            )
        return there


def read_labelled(path: Path, columns: Columns, rows: int) -> Dataset:
    """A file's labelled texts, a stratified sample; nothing of it is kept."""
    settings = {"id": "target", "data": columns.data(path), "max_rows": rows, "min_rows": 2, "skip_bad_rows": True}
    config = DatasetConfig.model_validate(settings | columns.of(path))
    try:
        return ingest(config, Path.cwd(), seed=0)
    except DataError as exc:  # which speaks of a study's datasets
        raise DataError(str(exc).replace(f"dataset {config.id}", str(path), 1)) from exc


def of_classes(target: str, dataset: Dataset, classes: Sequence[str], rows: int) -> Dataset:
    """The rows of a dataset that have one of these labels, of each part a stratified sample.

    Raises:
        DataError: it has no labels that are classes, or none of these.
    """
    names = dataset.label_names
    if dataset.task != "classification" or names is None:
        raise DataError(f"{target} holds {dataset.task} targets, and no classes to tell apart")
    if len(set(classes)) < len(classes):
        raise DataError(f"{classes[0]!r} is named twice; name two labels that are to be told apart")
    for name in classes:
        if name not in names:
            raise DataError(f"no text of {target} has the label {name!r}{did_you_mean(name, names)}")
    numbers = [names.index(name) for name in classes]

    def part(split: Split) -> Split:
        there = np.flatnonzero(np.isin(split.targets, numbers))
        taken = there[stratified_sample(split.targets[there], rows, generator(0, "classes of a match"))]
        places = (split.targets[taken][:, None] == numbers).argmax(axis=1)
        return Split(split.inputs.take(taken), places)

    parts = {name: part(split) for name, split in dataset.splits.items()}
    enough = {n: s for n, s in parts.items() if np.bincount(s.targets, minlength=2).min() >= FEWEST_A_LABEL}
    return replace(dataset, splits=enough or {n: s for n, s in parts.items() if len(s)}, label_names=tuple(classes))


def labelled_part(target: str, dataset: Dataset) -> Labelled:
    """The texts of a dataset that models are judged on: of a part that none can have been trained on, where there is
    such.

    Raises:
        DataError: it has no labels that are classes, or too few texts.
    """
    if dataset.task != "classification" or dataset.label_names is None:
        raise DataError(f"{target} holds {dataset.task} targets; a match needs labels that are classes")
    names = dataset.label_names
    part = next(name for name in ("test", "validation", "train") if name in dataset.splits)
    split = dataset.splits[part]
    fewest = max(FEWEST_TEXTS, FEWEST_A_LABEL * len(names))
    if len(split) < fewest:
        raise DataError(f"{target} has {len(split)} labelled texts with {len(names)} labels; give at least {fewest}")
    counts = np.bincount(split.targets, minlength=len(names))
    return Labelled(part, split, names, names[int(counts.argmax())], float(counts.max() / len(split)))
