"""Names of classes that a file declares for the numbers in it (the ClassLabel of `datasets`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fute.data.label_column import plain_labels
from fute.did_you_mean import listed
from fute.errors import DataError


def declared_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Names of a ClassLabel, from what `datasets` writes into a schema's metadata."""
    feature = _features(schema).get(column)
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    return tuple(map(str, names)) if names else None


def one_declaration(tables: Sequence[pa.Table], column: str, where: str) -> list[pa.Table]:
    """Tables whose class numbers mean the same in all of them.

    Where they declare different names, or the same in another order, each table's own names decide its rows: the
    numbers are made those of all names together, in the order of the tables.

    Raises:
        DataError: declarations differ, and a table has none, or numbers that it has no name for.
    """
    declared = [declared_names(table.schema, column) for table in tables]
    given = {names for names in declared if names is not None}
    if len(given) < 2:
        return list(tables)
    every = {name: number for number, name in enumerate(dict.fromkeys(n for names in declared for n in names or ()))}
    features = json.dumps({"info": {"features": {column: {"names": list(every), "_type": "ClassLabel"}}}})
    aligned = []
    for table, names in zip(tables, declared, strict=True):
        labels = plain_labels(table.column(column), f"{where}: the label column {column!r}")
        try:
            if pa.types.is_integer(labels.type):
                labels = renumbered(labels, {number: every[name] for number, name in enumerate(names or ())})
        except KeyError as exc:
            raise DataError(
                f"{where}: its files declare different names for the numbers in column {column!r} "
                f"({'; '.join(sorted(map(listed, given)))}), and one of them holds numbers that it has no name for; "
                "give all files the same names, or write the labels as text"
            ) from exc
        index = table.schema.get_field_index(column)
        aligned.append(table.set_column(index, column, labels).replace_schema_metadata({"huggingface": features}))
    return aligned


def renumbered(labels: pa.ChunkedArray, numbers: Mapping[int, int]) -> pa.ChunkedArray:
    """Labels (int64) under other numbers; null and -1, which stand for no label, stay.

    Raises:
        KeyError: a label has no new number.
    """
    table = {-1: -1, **numbers}
    place = pc.index_in(labels, pa.array(list(table), pa.int64()))
    if place.null_count > labels.null_count:
        raise KeyError(pc.unique(labels).to_pylist())
    return pa.array(list(table.values()), pa.int64()).take(place)


def _features(schema: pa.Schema) -> dict[str, Any]:
    written = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(written)["info"]["features"] if written is not None else {}
    except (ValueError, KeyError, TypeError):
        return {}  # another writer's metadata: the labels speak for themselves
    return features if isinstance(features, dict) else {}
