"""Rows of the referee's table: Parquet files, to which anybody can add one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.stamp import code_version

RESULTS = Path(__file__).parent / "results/referee"
SCHEMA = pa.schema(
    [
        pa.field("zoo", pa.string(), False),
        pa.field("method", pa.string(), False),
        pa.field("reads", pa.string(), False),
        pa.field("question", pa.string(), False),
        pa.field("measure", pa.string(), False),
        pa.field("value", pa.float64(), False),
        pa.field("low", pa.float64()),  # of a 95 % interval, tasks or targets resampled
        pa.field("high", pa.float64()),
        pa.field("n", pa.int64(), False),  # queries or targets
        pa.field("seconds", pa.float64()),  # of one subject, beside what all methods share
    ]
)


def write_rows(rows: Sequence[dict[str, Any]], what: str) -> None:
    """One file for a method on a zoo, in place of an earlier one."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = what.replace(", ", "-").replace(" ", "_").replace("(", "").replace(")", "")
    path = RESULTS / f"{name}.parquet"
    table = pa.Table.from_pylist(list(rows), SCHEMA).replace_schema_metadata({"git_commit": code_version() or ""})
    unfinished = path.with_suffix(".unfinished")
    pq.write_table(table, unfinished)
    unfinished.replace(path)


def read_rows() -> list[dict[str, Any]]:
    """Of all files, in the order of their names."""
    return [row for file in sorted(RESULTS.glob("*.parquet")) for row in pq.read_table(file, schema=SCHEMA).to_pylist()]
