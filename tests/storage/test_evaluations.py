"""Evaluations: found again by their key, and looked at as one view, on an empty store too."""

from __future__ import annotations

from pathlib import Path

import pytest

from fute.errors import NotInStoreError
from storage import catalog, schemas
from storage.stamp import Stamp
from storage.store import Store

ROW = {"subject": "mood", "candidate": "topic", "seed": 3, "measure": "accuracy", "value": 0.75}


def test_an_evaluation_is_found_by_its_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.has_evaluations("k")
    with pytest.raises(NotInStoreError, match="no evaluation k"):
        store.evaluations("k")
    assert store.put_evaluations("transfer", [ROW], Stamp("r", "f"), "k") == "k"
    assert store.has_evaluations("k")
    (row,) = store.evaluations("k")
    assert {name: row[name] for name in ROW} == ROW
    assert (row["name"], row["space"], row["run_id"], row["flow_run_id"]) == ("transfer", None, "r", "f")


def test_without_a_key_the_rows_and_the_run_are_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keys = [store.put_evaluations("ranks", [ROW], Stamp(run)) for run in ("r", "r", "s")]
    assert keys[0] == keys[1] != keys[2]
    assert catalog.query(tmp_path, "SELECT count(*) FROM evaluations").rows == [(2,)]


def test_the_view_has_all_columns_with_and_without_files(tmp_path: Path) -> None:
    columns = schemas.EVALUATIONS.names
    assert catalog.query(tmp_path, "SELECT * FROM evaluations").columns == columns
    Store(tmp_path).put_evaluations("transfer", [ROW], Stamp())
    found = catalog.query(tmp_path, "SELECT * FROM evaluations")
    assert found.columns == columns
    assert found.records()[0]["candidate"] == "topic"
