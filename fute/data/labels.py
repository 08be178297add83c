"""Class labels of any type as class ids, the same in every split."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fute.data.declared_names import declared_names, one_declaration, renumbered
from fute.data.faults import Fault, Targets, found, mask
from fute.data.label_column import plain_labels
from fute.data.named_numbers import BOOLEANS, class_indices, spelt_number
from fute.did_you_mean import did_you_mean, listed
from fute.errors import DataError

UNLABELLED = -1  # what hub datasets put where the labels are held back


@dataclass(frozen=True)
class ClassTargets:
    """Attributes:
    splits: class ids of each labelled split.
    label_names: names of the classes 0, 1, ...
    unlabelled: splits without any label, and how that showed.
    """

    splits: dict[str, Targets]
    label_names: tuple[str, ...]
    unlabelled: dict[str, str]


def class_targets(tables: Mapping[str, pa.Table], column: str, given: Sequence[str] | None) -> ClassTargets:
    """Read class labels: strings, booleans, or whole numbers.

    Names come from `given`, else from the features that `datasets` wrote into the schema, else from the labels that
    occur (in any split): in the order of their dictionary where the column has one, else sorted. Where names are
    given, numbers are indices of them, unless they are called by name (`fute.data.named_numbers`); else numbers are
    classes by their own name, -1 included if training rows have it.

    Args:
        tables: splits, "train" among them.

    Raises:
        DataError: labels of a type that names no classes, of different types in different splits, or that can be
            read in two ways.
    """
    aligned = one_declaration(list(tables.values()), column, ", ".join(tables))
    tables = dict(zip(tables, aligned, strict=True))
    declared = declared_names(tables["train"].schema, column)
    names = tuple(given) if given is not None else declared
    labels = {s: plain_labels(t.column(column), f"{s}: the label column {column!r}") for s, t in tables.items()}
    kinds = {split: _kind(rows, split) for split, rows in labels.items()}
    there = {kind for kind in kinds.values() if kind is not None}
    if len(there) > 1 and "text" in there:
        raise DataError(
            "labels are numbers in one split and text in another: "
            + ", ".join(f"{split}: {tables[split].column(column).type}" for split in tables)
            + "; give all splits the same"
        )
    if "text" in there or not there:
        return _from_text(labels, column, names, _dictionary(tables["train"].column(column)))
    numbers = {split: rows.cast(pa.int64()) for split, rows in labels.items()}
    boolean = there == {"boolean"}
    if given is not None:
        numbers = _indices(numbers, given, declared, boolean)
    elif names is None and boolean:
        names = tuple(BOOLEANS.values())
    return _from_numbers(numbers, column, names)


def _kind(labels: pa.ChunkedArray, split: str) -> str | None:
    """text, whole or boolean; None where every label is missing."""
    if labels.null_count == len(labels):
        return None
    if pa.types.is_floating(labels.type):
        whole = mask(pc.equal(pc.floor(labels), labels)) | mask(pc.is_null(labels))
        row = int(np.flatnonzero(~whole)[0])
        raise DataError(
            f"{split}: labels are numbers with fractions (row {row}: {labels[row].as_py()!r}); a classification "
            "needs classes; name another column, or, in a study, set task: regression"
        )
    if pa.types.is_boolean(labels.type):
        return "boolean"
    return "whole" if pa.types.is_integer(labels.type) else "text"


def _indices(
    numbers: dict[str, pa.ChunkedArray], given: Sequence[str], declared: Sequence[str] | None, boolean: bool
) -> dict[str, pa.ChunkedArray]:
    """Numbers that are called by name as the indices of these names."""
    present = {number for rows in numbers.values() for number in pc.unique(rows).to_pylist()} - {None}
    if all(spelt_number(name, given) != UNLABELLED for name in given):
        present -= {UNLABELLED}
    indices = class_indices(given, present, declared=declared, boolean=boolean)
    if indices is None:
        return numbers
    return {split: renumbered(rows, indices) for split, rows in numbers.items()}


def _from_numbers(labels: Mapping[str, pa.ChunkedArray], column: str, names: tuple[str, ...] | None) -> ClassTargets:
    missing = {split: mask(pc.is_null(rows)) for split, rows in labels.items()}
    values = {
        split: np.asarray(pc.fill_null(rows, UNLABELLED).to_numpy(), dtype=np.int64) for split, rows in labels.items()
    }
    train_has_it = bool((values["train"][~missing["train"]] == UNLABELLED).any())
    minus_one_is_a_class = names is None and train_has_it
    unlabelled = {}
    for split in [s for s in labels if s != "train" and len(values[s])]:
        if missing[split].all():
            unlabelled[split] = f"none of its {len(values[split])} rows has a label"
        elif not minus_one_is_a_class and (values[split] == UNLABELLED).all():
            unlabelled[split] = f"all of its {len(values[split])} labels are {UNLABELLED}, which stands for no label"
    kept = [split for split in labels if split not in unlabelled]
    if names is None:
        present = np.unique(np.concatenate([values[s][~missing[s]] for s in kept]))
        if not minus_one_is_a_class:
            present = present[present != UNLABELLED]
        names = tuple(str(label) for label in present)
        ids = {split: np.searchsorted(present, values[split]).astype(np.int64) for split in kept}
        known = {split: np.isin(values[split], present) for split in kept}
    else:
        ids = {split: values[split] for split in kept}
        known = {split: (values[split] >= 0) & (values[split] < len(names)) for split in kept}
    splits = {}
    for split in kept:
        odd = ~known[split] & ~missing[split]
        minus_one = odd & (values[split] == UNLABELLED)
        odd &= ~minus_one
        first = values[split][odd][:1]
        splits[split] = Targets(
            ids[split],
            found(
                Fault("null", f"with no label in column {column!r}", missing[split]),
                Fault("label", f"with the label {UNLABELLED}, which stands for no label", minus_one),
                Fault("label", f"with a label out of range 0..{len(names) - 1} (first: {int(first.sum())})", odd),
            ),
        )
    return ClassTargets(splits, names, unlabelled)


def _from_text(
    labels: Mapping[str, pa.ChunkedArray], column: str, names: tuple[str, ...] | None, order: Sequence[str]
) -> ClassTargets:
    labels = {split: rows.cast(pa.large_string()) for split, rows in labels.items()}
    missing = {split: mask(pc.is_null(rows)) for split, rows in labels.items()}
    unlabelled = {
        split: f"none of its {len(rows)} rows has a label"
        for split, rows in missing.items()
        if split != "train" and len(rows) and rows.all()
    }
    kept = [split for split in labels if split not in unlabelled]
    if names is None:
        present: set[str] = set()
        for split in kept:
            present.update(pc.unique(labels[split].filter(pa.array(~missing[split]))).to_pylist())
        if twice := spelt_alike(present):
            raise DataError(
                f"the labels {listed(map(repr, twice))} would be different classes, but differ in blanks only; "
                "write them alike, or list both in label_names"
            )
        listed_first = [name for name in order if name in present]
        names = (*listed_first, *sorted(present - set(listed_first)))
    splits = {}
    for split in kept:
        ids = pc.fill_null(pc.index_in(labels[split], pa.array(names, pa.large_string())), -1)
        values = np.asarray(ids.to_numpy(), dtype=np.int64)
        unknown = (values < 0) & ~missing[split]
        what = ""
        if unknown.any():
            first = labels[split][int(np.flatnonzero(unknown)[0])].as_py()
            what = f"with a label that is none of {listed(names)} (first: {first!r}{did_you_mean(first, names)})"
        splits[split] = Targets(
            values,
            found(Fault("null", f"with no label in column {column!r}", missing[split]), Fault("label", what, unknown)),
        )
    return ClassTargets(splits, names, unlabelled)


def spelt_alike(names: Collection[str]) -> list[str]:
    """Names that differ in blanks only."""
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(" ".join(name.split()), []).append(name)
    return next((group for group in alike.values() if len(group) > 1), [])


def nearly_alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ in capitals, a final full stop, or how accents are encoded."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(unicodedata.normalize("NFC", name).casefold().removesuffix("."), []).append(name)
    return [group for group in alike.values() if len(group) > 1]


def _dictionary(column: pa.ChunkedArray) -> list[str]:
    """The categories of a dictionary column, in their order; none for another column."""
    if not pa.types.is_dictionary(column.type) or not column.num_chunks:
        return []
    return [name for name in column.unify_dictionaries().chunk(0).dictionary.to_pylist() if name is not None]


def class_counts(ids: NDArray[np.int64], names: Sequence[str]) -> dict[str, int]:
    return dict(zip(names, np.bincount(ids, minlength=len(names)).tolist(), strict=True))
