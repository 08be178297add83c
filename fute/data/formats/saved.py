"""A folder that `save_to_disk` of `datasets` wrote. Names of classes come along in its features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from fute.data.formats.base import FolderFormat
from fute.data.rows import arrow_table
from fute.errors import DataError

if TYPE_CHECKING:
    import datasets

SPLITS, STATE = "dataset_dict.json", "state.json"


def is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (STATE, SPLITS))


def saved_splits(folder: Path) -> dict[str, Path] | None:
    """The folder of each split; None where it holds no `DatasetDict`.

    Raises:
        DataError: its list of splits cannot be read.
    """
    if not (folder / SPLITS).is_file():
        return None
    try:
        return {name: folder / name for name in json.loads((folder / SPLITS).read_text(encoding="utf-8"))["splits"]}
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise DataError(f"{folder / SPLITS} cannot be read: {exc}; save the dataset again") from exc


class Saved(FolderFormat):
    @cached_property
    def _dataset(self) -> datasets.Dataset:
        from datasets import load_from_disk  # seconds, which other formats need not spend

        try:
            found = load_from_disk(str(self.path))
            return next(iter(found.values())) if isinstance(found, dict) else found  # splits of the same columns
        except Exception as exc:  # whatever its parts raise: of JSON, of Arrow, of features that it does not know
            raise self.unreadable("a saved dataset", exc) from exc

    def columns(self, wanted: Sequence[str]) -> list[str]:
        return list(self._dataset.column_names)

    def read(self, columns: Sequence[str]) -> pa.Table:
        return arrow_table(self._dataset, columns, self.path.name)

    def contents(self) -> list[tuple[str, Path]]:
        try:
            state = json.loads((self.path / STATE).read_text(encoding="utf-8"))
            return [(entry["filename"], self.path / entry["filename"]) for entry in state["_data_files"]]
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise self.unreadable("a saved dataset", exc) from exc
