"""Parquet, whose columns have names and types."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from fute.data.formats.base import FileFormat


class Parquet(FileFormat):
    def columns(self, wanted: Sequence[str]) -> list[str]:
        try:
            return list(pq.read_schema(self.path).names)
        except (pa.ArrowException, OSError) as exc:
            raise self.unreadable("parquet", exc) from exc

    def read(self, columns: Sequence[str]) -> pa.Table:
        try:
            # Without a partitioning, or a folder called `kind=a` above would add a column.
            return pq.read_table(self.path, columns=list(columns), partitioning=None)
        except (pa.ArrowException, OSError) as exc:
            raise self.unreadable("parquet", exc) from exc
