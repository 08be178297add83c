"""Class labels of any type as class ids, the same in every split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fute.data.faults import Fault, Targets, found, mask
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
    given, numbers are indices of them; else numbers are classes by their own name, -1 included if training rows
    have it.

    Args:
        tables: splits, "train" among them.

    Raises:
        DataError: labels of a type that names no classes, or of different types in different splits.
    """
    names = tuple(given) if given is not None else _declared_names(tables["train"], column)
    numeric = {split: _is_numeric(table.column(column), split) for split, table in tables.items()}
    kinds = {kind for kind in numeric.values() if kind is not None}
    if len(kinds) > 1:
        raise DataError(
            "labels are numbers in one split and text in another: "
            + ", ".join(f"{split}: {tables[split].column(column).type}" for split in tables)
            + "; give all splits the same"
        )
    if names is None and all(pa.types.is_boolean(table.column(column).type) for table in tables.values()):
        names = ("false", "true")
    if kinds == {True}:
        return _from_numbers(tables, column, names)
    return _from_text(tables, column, names)


def _is_numeric(column: pa.ChunkedArray, split: str) -> bool | None:
    """True for numbers, False for text, None where every label is missing."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if column.null_count == len(column):
        return None
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return True
    if pa.types.is_floating(kind):
        whole = mask(pc.equal(pc.floor(column), column)) | mask(pc.is_null(column, nan_is_null=True))
        if not whole.all():
            row = int(np.flatnonzero(~whole)[0])
            raise DataError(
                f"{split}: labels are numbers with fractions (row {row}: {column[row].as_py()!r}); a classification "
                "needs classes; set task: regression, or name another column"
            )
        return True
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return False
    if pa.types.is_temporal(kind):  # text that looked like dates to a reader of CSV or JSON
        return False
    raise DataError(
        f"{split}: the label column holds {column.type}; a classification needs text, whole numbers or booleans"
    )


def _from_numbers(tables: Mapping[str, pa.Table], column: str, names: tuple[str, ...] | None) -> ClassTargets:
    values, missing = {}, {}
    for split, table in tables.items():
        labels = table.column(column)
        if pa.types.is_dictionary(labels.type):
            labels = labels.cast(labels.type.value_type)
        missing[split] = mask(pc.is_null(labels, nan_is_null=True))
        filled = pc.if_else(pa.chunked_array([pa.array(missing[split])]), None, labels) if len(labels) else labels
        values[split] = np.asarray(pc.fill_null(filled.cast(pa.int64()), UNLABELLED).to_numpy(), dtype=np.int64)
    train_has_it = bool((values["train"][~missing["train"]] == UNLABELLED).any())
    minus_one_is_a_class = names is None and train_has_it
    unlabelled = {}
    for split in [s for s in tables if s != "train" and len(values[s])]:
        if missing[split].all():
            unlabelled[split] = f"none of its {len(values[split])} rows has a label"
        elif not minus_one_is_a_class and (values[split] == UNLABELLED).all():
            unlabelled[split] = f"all of its {len(values[split])} labels are {UNLABELLED}, which stands for no label"
    kept = [split for split in tables if split not in unlabelled]
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


def _from_text(tables: Mapping[str, pa.Table], column: str, names: tuple[str, ...] | None) -> ClassTargets:
    labels = {split: pc.cast(table.column(column), pa.large_string()) for split, table in tables.items()}
    missing = {s: mask(pc.is_null(c)) | mask(pc.equal(pc.utf8_trim_whitespace(c), "")) for s, c in labels.items()}
    unlabelled = {
        split: f"none of its {len(rows)} rows has a label"
        for split, rows in missing.items()
        if split != "train" and len(rows) and rows.all()
    }
    kept = [split for split in tables if split not in unlabelled]
    if names is None:
        present: set[str] = set()
        for split in kept:
            present.update(pc.unique(labels[split].filter(pa.array(~missing[split]))).to_pylist())
        order = _dictionary(tables["train"].column(column))
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


def _dictionary(column: pa.ChunkedArray) -> list[str]:
    """The categories of a dictionary column, in their order; none for another column."""
    if not pa.types.is_dictionary(column.type) or not column.num_chunks:
        return []
    return [name for name in column.unify_dictionaries().chunk(0).dictionary.to_pylist() if name is not None]


def _declared_names(table: pa.Table, column: str) -> tuple[str, ...] | None:
    """Names of a ClassLabel, from what `datasets` writes into a schema's metadata."""
    written = (table.schema.metadata or {}).get(b"huggingface")
    if written is None:
        return None
    try:
        feature = json.loads(written)["info"]["features"][column]
    except (ValueError, KeyError, TypeError):
        return None  # another writer's metadata: the labels speak for themselves
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    return tuple(map(str, names)) if names else None


def class_counts(ids: NDArray[np.int64], names: Sequence[str]) -> dict[str, int]:
    return dict(zip(names, np.bincount(ids, minlength=len(names)).tolist(), strict=True))
