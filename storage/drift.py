"""Baselines and checks of drift: what a panel was answered at first, and every time since.

drift/baselines/<model>/<panel>-<version>.parquet    one row for each asking and row of the panel
drift/checks/<day>/<unique>.parquet                  one row a check, with what was answered
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fute.drift import Baseline
from storage import schemas
from storage.files import read_parquet, write_parquet
from storage.stamp import Stamp
from storage.store import Store, card, slug


class DriftStore:
    """The part of a store that watches models."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._root = store.root / "drift"

    def baseline(self, ref: str, panel: str) -> tuple[str, Baseline] | None:
        """The newest baseline of a model on a panel, with its name; None where there is none."""
        files = sorted(self._folder(ref).glob(f"{panel}-*.parquet"))
        if not files:
            return None
        table = read_parquet(files[-1])
        k = int(table["asking"].to_numpy().max()) + 1
        values = table["values"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        answered = table["answered"].to_numpy(zero_copy_only=False)
        n = len(table) // k
        return files[-1].stem, Baseline(values.reshape(k, n, -1).astype(np.float32), answered.reshape(k, n))

    def has_baselines(self, ref: str) -> bool:
        """Whether a model has a baseline on any panel."""
        return any(self._folder(ref).glob("*.parquet"))

    def put_baseline(
        self, ref: str, panel: str, rows: Sequence[int], baseline: Baseline, stamp: Stamp
    ) -> tuple[str, Baseline]:
        """Write a new version; the older ones stay, for checks refer to them by name."""
        k, n, c = baseline.values.shape
        version = 1 + sum(1 for _ in self._folder(ref).glob(f"{panel}-*.parquet"))
        name = f"{panel}-{version:06d}"
        table = pa.table(
            {
                "model": pa.repeat(pa.scalar(ref), k * n),
                "baseline": pa.repeat(pa.scalar(name), k * n),
                "asking": pa.array(np.repeat(np.arange(k, dtype=np.int32), n)),
                "row": pa.array(np.tile(np.asarray(rows, dtype=np.int32), k)),
                "answered": pa.array(baseline.answered.ravel()),
                "values": pa.ListArray.from_arrays(
                    pa.array(np.arange(k * n + 1, dtype=np.int32) * c),
                    pa.array(np.ascontiguousarray(baseline.values, dtype=np.float32).ravel()),
                ),
                **stamp.columns(k * n),
            },
            schema=schemas.DRIFT_BASELINES,
        )
        write_parquet(self._store.scratch, self._folder(ref) / f"{name}.parquet", table)
        return name, baseline

    def put_check(
        self, row: Mapping[str, Any], values: NDArray[np.float32], answered: NDArray[np.bool_], stamp: Stamp
    ) -> None:
        """Write one check, with what the panel was answered (n, c)."""
        day = f"{datetime.now(UTC):%Y%m%d}"
        told = {**row, "panel_answered": answered.tolist(), "panel_values": values.ravel().tolist()}
        path = self._root / "checks" / day / f"{uuid.uuid4().hex}.parquet"
        write_parquet(self._store.scratch, path, card(schemas.DRIFT, told, stamp))

    def _folder(self, ref: str) -> Path:
        return self._root / "baselines" / slug(ref)
