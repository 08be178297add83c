"""Datasets from rows in memory, by the way that a study's own function of rows goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fute.config import DatasetConfig, PythonSource
from fute.data.ingest import ingest
from fute.types import Dataset

HERE = Path(__file__).parent  # beside it there is no `tests`, so that this very module is asked
_rows: Any = None


def current() -> Any:
    return _rows


def dataset_from_rows(id: str, task: str, rows: Any, *, seed: int = 0, **settings: Any) -> Dataset:
    """
    Args:
        rows: {split: {column: values}}, or a `datasets.DatasetDict`.
        settings: as in a study's dataset.
    """
    global _rows
    _rows = rows
    source = PythonSource(source="python", entry_point="tests.fute.memory_rows:current")
    return ingest(DatasetConfig.model_validate({"id": id, "task": task, "data": source, **settings}), HERE, seed)
