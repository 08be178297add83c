"""Rows that a Python function returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fute.config import PythonSource
from fute.data.rows import tables_from_rows
from fute.entry_point import entry_point_identity, load_entry_point
from fute.errors import DataError, FuteError


@dataclass(frozen=True)
class PythonReader:
    source: PythonSource
    base_dir: Path

    def tables(self, text: Sequence[str], other: Sequence[str]) -> dict[str, pa.Table]:
        """What the function returns. An exception of its own is a DataError, with its reason."""
        entry = self.source.entry_point
        function = load_entry_point(entry, self.base_dir)
        try:
            rows = function(**self.source.kwargs)
        except FuteError:
            raise
        except Exception as exc:
            raise DataError(f"{entry} raised {type(exc).__name__}: {exc}") from exc
        return tables_from_rows(rows, [*text, *other], entry)

    def remarks(self, columns: Sequence[str]) -> list[str]:
        return []

    def identity(self) -> dict[str, Any]:
        function = entry_point_identity(self.source.entry_point, self.base_dir)
        return {**function, "kwargs": self.source.kwargs, "revision": self.source.revision}

    def problems(self, columns: Sequence[str]) -> list[str]:
        entry_point_identity(self.source.entry_point, self.base_dir)
        return []

    def split_names(self) -> None:
        return None

    def parts(self) -> list[tuple[str, PythonSource]]:
        return [(self.source.entry_point, self.source)]
