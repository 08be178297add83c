"""Baselines and checks of drift: what a panel was answered at first, and every time since.

drift/baselines/<model>/<panel>-<study>-<version>.parquet    one row for each asking and row of the panel
drift/checks/<day>/<watched>-<unique>.parquet                one row a check of either tier; <watched> is of
                                                             study and model: theirs are counted by their names
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fute.drift import Baseline
from fute.fingerprint import fingerprint
from storage import schemas
from storage.catalog import query
from storage.files import read_parquet, write_parquet
from storage.parts import singles_of
from storage.stamp import Stamp
from storage.store import Store, card, slug, to_json


@dataclass(frozen=True, eq=False)
class Kept:
    """A baseline as it was stored.

    Attributes:
        ref: id@fingerprint of the model as it was then.
        settings: setting -> fingerprint of its value then; empty where that was not noted.
        served: names that the endpoint gave its model; empty where they were not noted.
        label_names: of the columns of its answers; empty where they are texts, or were not noted.
    """

    name: str
    ref: str
    settings: Mapping[str, str]
    baseline: Baseline
    served: frozenset[str]
    label_names: tuple[str, ...]
    created_at: datetime


class DriftStore:
    """The part of a store that watches models."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._root = store.root / "drift"

    def baseline(self, study: str, ref: str, panel: str) -> Kept | None:
        """The newest baseline of a study's model on a panel, whatever its settings were then; None: there is none.

        Not that of the model's fingerprint: with that, a model whose settings were changed would be one that was never
        seen before, and nobody would hear of it.
        """
        found = self._tables(study, ref, f"{panel}-*.parquet")
        if not found:
            return None
        path, table = max(found, key=lambda pair: (_version(pair[0]), pair[1]["created_at"][0].as_py()))
        k = int(table["asking"].to_numpy().max()) + 1
        values = table["values"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        answered = table["answered"].to_numpy(zero_copy_only=False)
        n = len(table) // k
        noted = {c: table[c][0].as_py() for c in ("settings", "served", "label_names") if c in table.column_names}
        return Kept(
            path.stem,
            table["model"][0].as_py(),
            json.loads(noted.get("settings") or "{}"),
            Baseline(values.reshape(k, n, -1).astype(np.float32), answered.reshape(k, n)),
            frozenset(noted.get("served") or ()),
            tuple(noted.get("label_names") or ()),
            table["created_at"][0].as_py(),
        )

    def checks(self, study: str, model: str, baseline: str) -> list[dict[str, Any]]:
        """Wires and panels of the view `drift` against one baseline, oldest first; not those of earlier versions, which
        counted nothing."""
        found = query(
            self._store.root,
            "SELECT * FROM drift WHERE study = $study AND model = $model AND baseline = $baseline "
            "AND tier IN ('wire', 'panel') ORDER BY created_at",
            {"study": study, "model": model, "baseline": baseline},
        )
        return found.records()

    def has_baselines(self, study: str, ref: str) -> bool:
        """Whether a study's model has a baseline on any panel."""
        return bool(self._tables(study, ref, "*.parquet"))

    def put_baseline(
        self,
        ref: str,
        panel: str,
        rows: Sequence[int],
        baseline: Baseline,
        stamp: Stamp,
        *,
        study: str,
        settings: Mapping[str, str],
        served: Sequence[str] = (),
        label_names: Sequence[str] = (),
    ) -> str:
        """Write a new version and give its name; the older ones stay, for checks refer to them by name."""
        k, n, c = baseline.values.shape
        # Counted over all settings of the model: a check under new ones names a baseline under old ones.
        versions = [_version(path) for path in self._files(ref, f"{panel}-*.parquet")]
        # With the study in it: two that make theirs at once must not take one name.
        name = f"{panel}-{fingerprint(study=study)[:8]}-{max(versions, default=0) + 1:06d}"
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
                "study": pa.repeat(pa.scalar(study), k * n),
                "settings": pa.repeat(pa.scalar(to_json(settings)), k * n),
                "served": pa.array([list(served)] * (k * n), pa.list_(pa.string())),
                "label_names": pa.array([list(label_names)] * (k * n), pa.list_(pa.string())),
                **stamp.columns(k * n),
            },
            schema=schemas.DRIFT_BASELINES,
        )
        write_parquet(self._store.scratch, self._folder(ref) / f"{name}.parquet", table)
        return name

    def put_check(self, row: Mapping[str, Any], stamp: Stamp, day: date | None = None) -> None:
        """Write one check.

        Args:
            row: columns of the view `drift`.
            day: UTC, on which it began; default: today.
        """
        name = f"{_watched(row['study'], row['model'])}-{uuid.uuid4().hex}.parquet"
        path = self._checks(day or datetime.now(UTC).date()) / name
        write_parquet(self._store.scratch, path, card(schemas.DRIFT, row, stamp))

    def n_silent(self, ref: str, baseline: str, day: date) -> int:
        """How often `fute identify` met with silence that day."""
        found = query(
            self._store.root,
            "SELECT count(*) FROM drift WHERE tier = 'identity' AND state = 'unread' AND model_ref = $ref "
            "AND baseline = $baseline AND CAST(created_at AS DATE) = $day",
            {"ref": ref, "baseline": baseline, "day": day},
        )
        return int(found.rows[0][0])

    def n_stored(self, study: str, ref: str, day: date) -> int:
        """How many checks of that day, and baselines of any, a study's model has, whatever its settings were.

        It grows with each that is stored, whatever the clock says then.
        """
        checks = singles_of(self._checks(day))
        watched = [path for path in checks if path.name.startswith(_watched(study, ref.rpartition("@")[0]))]
        return len(watched) + len(self._tables(study, ref, "*.parquet"))

    def _checks(self, day: date) -> Path:
        return self._root / "checks" / f"{day:%Y%m%d}"

    def _folder(self, ref: str) -> Path:
        return self._root / "baselines" / slug(ref)

    def _files(self, ref: str, glob: str) -> list[Path]:
        """Of a model's baselines, whatever its fingerprint was."""
        id_ = slug(ref).rpartition("@")[0]
        folders = [f for f in (self._root / "baselines").glob("*") if f.name.rpartition("@")[0] == id_]
        return [path for folder in folders for path in folder.glob(glob)]

    def _tables(self, study: str, ref: str, glob: str) -> list[tuple[Path, pa.Table]]:
        """A model's baselines that were made in a study."""
        tables = [(path, read_parquet(path)) for path in self._files(ref, glob)]
        return [(path, t) for path, t in tables if "study" in t.column_names and t["study"][0].as_py() == study]


def _watched(study: str, model: str) -> str:
    return fingerprint(study=study, model=model)[:16]


def _version(path: Path) -> int:
    """Of a baseline, by its file: counted up, whatever the clock said."""
    return int(path.stem.rpartition("-")[2])
