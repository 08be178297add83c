"""Folded answers looked up by key: the keys are kept in memory, the answers are read when they are wanted."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fute.errors import StoreError
from fute.llm.types import Answer
from storage.live_responses import ANSWER_COLUMNS, answer_from_row
from storage.seal import UNREADABLE, require_unbroken

ROW_GROUP_SIZE = 256
"""Answers that are read together. They lie in the order in which they were asked for, and are mostly wanted in it."""

GROUPS_KEPT = 16


class FoldedAnswers:
    """Not safe between threads by itself: the response store holds a lock around it."""

    def __init__(self) -> None:
        self._files: dict[Path, pq.ParquetFile] = {}
        self._places: dict[str, tuple[Path, int, int]] = {}  # key: file, row group, row in it
        self._groups: dict[tuple[Path, int], pa.Table] = {}  # those used last, the latest at the end

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def load(self, path: Path) -> bool:
        """Learn the keys of a file, once; whether it is new.

        Raises:
            StoreError: the file is damaged.
        """
        if path in self._files:
            return False
        try:
            source = pa.OSFile(str(path))
            require_unbroken(source)
            file = pq.ParquetFile(source, page_checksum_verification=True)
            for group in range(file.num_row_groups):
                for row, key in enumerate(file.read_row_group(group, columns=["key"])["key"].to_pylist()):
                    self._places.setdefault(key, (path, group, row))
        except UNREADABLE as exc:
            raise StoreError(f"{path} cannot be read ({exc}); move it away, its answers will be asked again") from exc
        self._files[path] = file
        return True

    def get(self, key: str) -> Answer | None:
        if key not in self._places:
            return None
        path, group, row = self._places[key]
        table = self._groups.pop((path, group), None)
        if table is None:
            table = self._files[path].read_row_group(group, columns=list(ANSWER_COLUMNS)).select(ANSWER_COLUMNS)
        while len(self._groups) >= GROUPS_KEPT:
            self._groups.pop(next(iter(self._groups)))
        self._groups[path, group] = table
        return answer_from_row(*(column[row].as_py() for column in table.columns))
