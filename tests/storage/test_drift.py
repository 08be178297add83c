"""Baselines: the newest of a study's model, whatever its settings were when it was made."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from fute.drift import Baseline
from storage import schemas
from storage.catalog import query
from storage.drift import DriftStore
from storage.folding import folders
from storage.stamp import Stamp
from storage.store import Store
from tests.docs_store import fixed_time

PANEL = "0123"
OLD_CHECK = {"study": "s", "model": "p/api", "model_ref": "p/api@1", "pool": "q", "panel": PANEL, "drifted": True,
             "reasons": ["its embedding moved"], "rows": 3, "answered": 1.0, "calls": 3}  # fmt: skip


def put(store: Store, ref: str, value: float, *, study: str = "s", panel: str = PANEL) -> str:
    baseline = Baseline(np.full((2, 3, 2), value, np.float32), np.ones((2, 3), bool))
    return DriftStore(store).put_baseline(
        ref, panel, [4, 5, 6], baseline, Stamp(), study=study, settings={"system": ref}
    )


def test_a_model_has_the_newest_baseline_whatever_its_settings_were(tmp_path: Path) -> None:
    store = Store(tmp_path)
    checks = DriftStore(store)
    assert checks.baseline("s", "p/api@1", PANEL) is None
    names = [put(store, ref, value) for ref, value in (("p/api@1", 0.1), ("p/api@2", 0.2), ("p/api@1", 0.3))]
    assert [name.rpartition("-")[2] for name in names] == ["000001", "000002", "000003"]
    for ref in ("p/api@1", "p/api@2", "p/api@3"):
        kept = checks.baseline("s", ref, PANEL)
        assert kept is not None
        assert (kept.name, kept.ref, kept.settings) == (names[2], "p/api@1", {"system": "p/api@1"})
        assert kept.baseline.values.shape == (2, 3, 2)
        assert kept.baseline.values.max() == np.float32(0.3)


def test_baselines_of_other_studies_models_and_panels_are_not_looked_at(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "p/api@1", 0.1, study="another")
    put(store, "p/api/2@1", 0.1)
    put(store, "p/api@1", 0.1, panel="4567")
    checks = DriftStore(store)
    assert checks.baseline("s", "p/api@1", PANEL) is None
    assert checks.has_baselines("s", "p/api@1")
    assert not checks.has_baselines("third", "p/api@1")


def test_what_earlier_versions_stored_is_taken_over_but_for_checks_that_counted_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    checks = DriftStore(store)
    name = put(store, "p/api@1", 0.1)
    (path,) = (tmp_path / "drift" / "baselines").glob("*/*.parquet")
    pq.write_table(pq.read_table(path).drop_columns(["served"]), path)
    kept = checks.baseline("s", "p/api@1", PANEL)
    assert kept is not None
    assert (kept.served, kept.baseline.fault()) == (frozenset(), "only 3 of the panel's 3 rows were answered each time "
            "that the baseline was asked (needed: 16); raise drift.panel_rows, or look at the refusals")  # fmt: skip
    checks.put_check({**OLD_CHECK, "baseline": name}, Stamp())
    (path,) = (tmp_path / "drift" / "checks").glob("*/*.parquet")
    former = [column for column in pq.read_table(path).column_names if column in schemas.DRIFT_OF_FORMER]
    pq.write_table(pq.read_table(path).select(former), path)
    checks.put_check({**OLD_CHECK, "baseline": name, "tier": "panel", "asked": [3], "label_changed": [1]}, Stamp())
    assert [row["label_changed"] for row in checks.checks("s", "p/api", name)] == [[1]]
    assert query(tmp_path, "SELECT count(*), count(tier) FROM drift").rows == [(2, 1)]


def test_studies_that_watch_one_model_keep_their_baselines_apart(tmp_path: Path, monkeypatch) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr(DriftStore, "_files", lambda *_: [])  # each counts before it sees the other's
    names = [put(store, "p/api@1", value, study=study) for study, value in (("s", 0.1), ("another", 0.2))]
    monkeypatch.undo()
    assert len(set(names)) == 2
    for study, value in (("s", 0.1), ("another", 0.2)):
        kept = DriftStore(store).baseline(study, "p/api@1", PANEL)
        assert kept is not None
        assert kept.baseline.values.max() == np.float32(value)


def test_the_newest_baseline_is_the_last_one_whatever_the_clock_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "p/api@1", 0.1)
    with fixed_time():  # a day long ago
        last = put(store, "p/api@1", 0.2)
    kept = DriftStore(store).baseline("s", "p/api@1", PANEL)
    assert kept is not None
    assert kept.name == last


def test_what_is_stored_of_a_model_grows_with_each_check_and_baseline_and_a_day_is_folded_once_it_is_over(
    tmp_path: Path,
) -> None:
    store, day = Store(tmp_path), datetime.now(UTC).date()
    checks = DriftStore(store)

    def put_check(model: str = "p/api", study: str = "s", day: date = day) -> None:
        row = {"study": study, "model": model, "model_ref": f"{model}@1"}
        checks.put_check(row, Stamp(), day)

    def n_stored() -> int:
        return checks.n_stored("s", "p/api@2", day)

    assert n_stored() == 0
    put(store, "p/api@1", 0.1)
    for _ in range(3):
        put_check()
    assert n_stored() == 4
    put_check(model="q/api")
    put_check(study="another")
    put_check(day=day + timedelta(days=1))
    put(store, "p/api@1", 0.1, study="another")
    assert n_stored() == 4
    assert folders(store) == []
    put_check(day=date(2020, 1, 1))
    assert [folder.name for folder in folders(store)] == ["20200101"]
