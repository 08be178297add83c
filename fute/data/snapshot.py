"""Datasets and pools as Arrow tables, and back without loss. Nothing is written here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from fute.errors import DataError
from fute.types import Dataset, Pool, Split, TaskType, TextTable

_INPUT = [
    pa.field("row", pa.int32(), nullable=False),
    pa.field("text", pa.large_string(), nullable=False),
    pa.field("text_pair", pa.large_string()),
]
_TARGETS: dict[TaskType, list[pa.Field]] = {
    "classification": [pa.field("label", pa.int64(), nullable=False)],
    "regression": [pa.field("label", pa.float32(), nullable=False)],
    "span_qa": [pa.field("start", pa.int64(), nullable=False), pa.field("end", pa.int64(), nullable=False)],
}
POOL_SCHEMA = pa.schema([*_INPUT, pa.field("source_id", pa.string(), nullable=False)])


def dataset_schema(task: TaskType) -> pa.Schema:
    """row, text, text_pair; then label (a class id or a number), or start and end of the answer (-1: none)."""
    return pa.schema([*_INPUT, *_TARGETS[task]])


def dataset_to_tables(dataset: Dataset) -> dict[str, pa.Table]:
    """A table for each split; the schema's metadata say the rest, as JSON under `fute.*`."""
    schema = dataset_schema(dataset.task)
    tables = {}
    for name, split in dataset.splits.items():
        values = np.atleast_2d(split.targets.T)  # (1 or 2, n): a row for each target column
        columns = _input_columns(split.inputs)
        columns += [pa.array(v, field.type) for v, field in zip(values, _TARGETS[dataset.task], strict=True)]
        metadata = {
            "id": dataset.id,
            "task": dataset.task,
            "label_names": dataset.label_names,
            "fingerprint": dataset.fingerprint,
            "provenance": dict(dataset.provenance),
            "report": dict(dataset.report),
            "pairs": split.inputs.pairs is not None,
            **_columns(split.inputs),
        }
        tables[name] = pa.table(columns, schema=schema.with_metadata(_encoded(metadata)))
    return tables


def dataset_from_tables(tables: Mapping[str, pa.Table]) -> Dataset:
    """The dataset that `dataset_to_tables` was given.

    Raises:
        DataError: no training split, or tables that were not made there.
    """
    if "train" not in tables:
        raise DataError(f"a stored dataset needs its split train; there is: {', '.join(tables) or 'nothing'}")
    metadata = _decoded(tables["train"], ["id", "task", "label_names", "fingerprint", "provenance", "report"])
    task: TaskType = metadata["task"]
    splits = {}
    for name, table in tables.items():
        values = [table.column(field.name).to_numpy() for field in _TARGETS[task]]
        targets = np.stack(values, axis=1) if len(values) > 1 else values[0].copy()
        splits[name] = Split(_input_table(table, _decoded(table, ["pairs"])["pairs"]), targets)
    names = metadata["label_names"]
    return Dataset(
        id=metadata["id"],
        task=task,
        splits=splits,
        fingerprint=metadata["fingerprint"],
        label_names=None if names is None else tuple(names),
        provenance=metadata["provenance"],
        report=metadata["report"],
    )


def pool_to_table(pool: Pool) -> pa.Table:
    """row, text, text_pair, source_id; the pool's id and report are in the schema's metadata."""
    metadata = {"pool": pool.id, "report": dict(pool.report), "pairs": pool.inputs.pairs is not None}
    metadata |= _columns(pool.inputs)
    columns = [*_input_columns(pool.inputs), pa.array(pool.source_ids, pa.string())]
    return pa.table(columns, schema=POOL_SCHEMA.with_metadata(_encoded(metadata)))


def pool_from_table(table: pa.Table) -> Pool:
    """The pool that `pool_to_table` was given.

    Raises:
        DataError: a table that was not made there, or whose rows are not those of its id.
    """
    metadata = _decoded(table, ["pool", "report", "pairs"])
    pool = Pool(_input_table(table, metadata["pairs"]), table.column("source_id").to_pylist(), metadata["report"])
    if pool.id != metadata["pool"]:
        raise DataError(
            f"the rows of pool {metadata['pool']} were changed: they are those of {pool.id}; build it again"
        )
    return pool


def _input_columns(inputs: TextTable) -> list[pa.Array]:
    pairs = [None] * len(inputs) if inputs.pairs is None else list(inputs.pairs)
    return [
        pa.array(range(len(inputs)), pa.int32()),
        pa.array(list(inputs.texts), pa.large_string()),
        pa.array(pairs, pa.large_string()),
    ]


def _input_table(table: pa.Table, has_pairs: bool) -> TextTable:
    rows = table.column("row").to_numpy()
    if not np.array_equal(rows, np.arange(len(table))):
        raise DataError("the rows of a stored table are out of order or incomplete; write it again")
    pairs = table.column("text_pair").to_pylist() if has_pairs else None
    written = (table.schema.metadata or {}).get(b"fute.columns")
    columns = None if written is None else tuple(json.loads(written))
    return TextTable(table.column("text").to_pylist(), pairs, columns=columns)


def _columns(inputs: TextTable) -> dict[str, Any]:
    return {} if inputs.columns is None else {"columns": list(inputs.columns)}


def _encoded(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {f"fute.{name}": json.dumps(value, sort_keys=True) for name, value in metadata.items()}


def _decoded(table: pa.Table, names: list[str]) -> dict[str, Any]:
    written = table.schema.metadata or {}
    missing = [name for name in names if f"fute.{name}".encode() not in written]
    if missing:
        raise DataError(
            f"this table was not written by fute: its metadata lack {', '.join(f'fute.{n}' for n in missing)}"
        )
    return {name: json.loads(written[f"fute.{name}".encode()]) for name in names}
