"""Subjects that are ranked no longer: `fute retire` takes them out of every space, a run that embeds them brings them
back.

retired/<digest>.parquet    one row for each subject; the latest of a subject counts
"""

from __future__ import annotations

from collections.abc import Collection, Set
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from fute.fingerprint import fingerprint
from fute.types import Kind
from storage import schemas
from storage.files import read_parquet, write_parquet
from storage.stamp import Stamp
from storage.store import Store

FOLDER = "retired"

SubjectKey = tuple[Kind, str]
"""Kind and id."""


def retired(root: Path) -> Set[SubjectKey]:
    """The subjects that no ranking of a store is to hold."""
    rows = sorted(_rows(root), key=lambda row: row["created_at"])
    latest = {(row["kind"], row["subject"]): row["retired"] for row in rows}
    return {key for key, gone in latest.items() if gone}


def retire(store: Store, subjects: Collection[SubjectKey], stamp: Stamp) -> None:
    """Take subjects out of the rankings. What is stored of them stays."""
    _write(store, subjects, stamp, gone=True)


def bring_back(store: Store, subjects: Collection[SubjectKey], stamp: Stamp) -> None:
    """Let those of the subjects that were retired be ranked again."""
    _write(store, retired(store.root) & set(subjects), stamp, gone=False)


def _write(store: Store, subjects: Collection[SubjectKey], stamp: Stamp, *, gone: bool) -> None:
    if not subjects:
        return
    keys = sorted(subjects)
    table = pa.table(
        {
            "kind": [kind for kind, _ in keys],
            "subject": [subject for _, subject in keys],
            "retired": [gone] * len(keys),
            **stamp.columns(len(keys)),
        },
        schema=schemas.RETIREMENTS,
    )
    # Later than what it revises, also when the clock went back.
    earlier = [row["created_at"] + timedelta(microseconds=1) for row in _rows(store.root)]
    at = max([table["created_at"][0].as_py(), *earlier])
    column = table.schema.get_field_index("created_at")
    table = table.set_column(column, schemas.RETIREMENTS.field("created_at"), pa.array([at] * len(keys), schemas.UTC))
    name = fingerprint(subjects=keys, retired=gone, at=at.isoformat())
    write_parquet(store.scratch, store.root / FOLDER / f"{name}.parquet", table)


def _rows(root: Path) -> list[dict[str, Any]]:
    return [row for path in (root / FOLDER).glob("*.parquet") for row in read_parquet(path).to_pylist()]
