"""Which rows stand in the folded files of a folder, and whether such a file can be read from end to end.

For a row that stands in another file as well, nothing is left out and nothing deleted before that file was read: of a
damaged one the column that names the rows may be whole, and the rest lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.folded_embeddings import USED


def embedding_keys(table: pa.Table) -> pa.Table:
    """By fingerprint, with the time of last use."""
    return _keys(table["fingerprint"], table[USED])


def run_keys(table: pa.Table) -> pa.Table:
    """By flow run: one that is retried writes its record again. One without a name is told by its time."""
    created = table["created_at"].cast(pa.int64())
    return _keys(pc.coalesce(table["flow_run_id"], created.cast(pa.string())), created)


def check_keys(table: pa.Table) -> pa.Table:
    """By model and time: a check is written once."""
    created = table["created_at"].cast(pa.int64())
    model = pc.fill_null(table["model_ref"], "")
    return _keys(pc.binary_join_element_wise(model, created.cast(pa.string()), " "), created)


def _keys(names: pa.ChunkedArray, times: pa.ChunkedArray) -> pa.Table:
    return pa.table({"key": names, "time": times}).combine_chunks()


class ReadThrough:
    """Files that are read from end to end, each once."""

    def __init__(self) -> None:
        self._faults: dict[Path, str | None] = {}

    def fault(self, path: Path) -> str | None:
        """Why a file cannot be read; None: it can."""
        if path not in self._faults:
            self._faults[path] = _fault_of(path)
        return self._faults[path]


class Standing(ReadThrough):
    """Rows in some parts.

    Args:
        keys: reads the keys of a file, and the times that go with them.
        timed: a row stands only where it is as late as the one that is looked for, or later.
    """

    def __init__(self, parts: Sequence[Path], keys: Callable[[Path], pa.Table], *, timed: bool) -> None:
        super().__init__()
        self._parts = list(parts)
        self._keys = keys
        self._timed = timed
        self._known: dict[Path, pa.Table | None] = {}

    def whole(self, wanted: Mapping[Path, pa.Table], first: Path) -> set[Path]:
        """Those of some files all of whose rows stand in parts that can be read.

        Args:
            wanted: the keys of each file.
            first: the part where most will be.
        """
        if not wanted:
            return set()
        rows = pa.concat_tables(list(wanted.values()))
        found = np.zeros(len(rows), bool)
        for part in sorted(self._parts, key=lambda part: part != first):
            if found.all():
                break
            here = self._find(part, rows)
            if (here & ~found).any() and self.fault(part) is None:
                found |= here
        ends = np.cumsum([len(table) for table in wanted.values()])
        each = zip(wanted, np.split(found, ends[:-1]), strict=True)
        return {path for path, own in each if len(own) and own.all()}

    def _find(self, part: Path, rows: pa.Table) -> NDArray[np.bool_]:
        """(n,) which rows a part holds, by its columns of keys."""
        if part not in self._known:
            self._known[part] = self._read(part)
        if (known := self._known[part]) is None:
            return np.zeros(len(rows), bool)
        places = pc.index_in(rows["key"], value_set=known["key"])
        if not self._timed:
            return pc.is_valid(places).to_numpy()
        return pc.fill_null(pc.greater_equal(known["time"].take(places), rows["time"]), False).to_numpy()

    def _read(self, part: Path) -> pa.Table | None:
        try:
            keys = self._keys(part)
        except (pa.ArrowException, OSError, KeyError):
            return None
        # Of the same key the latest is to be found.
        return keys.sort_by([("time", "descending")]).combine_chunks() if self._timed else keys


def _fault_of(path: Path) -> str | None:
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except (pa.ArrowException, OSError) as exc:
        return str(exc)
    return None
