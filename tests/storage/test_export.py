"""catalog.duckdb: opened by a plain connection, shows what the catalog shows, new files and folded ones included."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import numpy as np
import pytest

from fute.errors import StoreError
from fute.types import Outputs, Pool, TextTable
from storage import catalog
from storage.export import export_catalog
from storage.stamp import Stamp
from storage.store import Store
from storage.views import COMMENTS
from tests.storage.small_store import FOLDER, fold, write


def shown(file: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(file), read_only=True) as con:
        con.execute("SET TimeZone = 'UTC'")
        return con.execute(sql).fetchall()


def test_a_plain_connection_sees_every_view_with_the_same_columns(tmp_path: Path) -> None:
    store = write(tmp_path / "it's a store", range(4))
    pool = store.put_pool(Pool(TextTable(["a", "b"]), ["s", "s"]), Stamp())
    store.put_outputs(pool, "m@1", Outputs("labels", np.eye(2, dtype=np.float32), ("no", "yes")), Stamp())
    store.put_run({"study": "s", "flow": "embed", "state": "Completed"}, Stamp(None, "f"))
    file = tmp_path / "catalog.duckdb"
    export_catalog(store.root, file)
    for view in COMMENTS:
        sql = f"SELECT * FROM {view} ORDER BY ALL"
        answer = catalog.query(store.root, sql)
        with duckdb.connect(str(file), read_only=True) as con:
            con.execute("SET TimeZone = 'UTC'")
            result = con.execute(sql)
            assert [c[0] for c in result.description] == answer.columns
            assert result.fetchall() == answer.rows
    assert shown(file, "SELECT subject FROM most_similar('m1', k := 1)") == catalog.query(
        store.root, "SELECT subject FROM most_similar('m1', k := 1)"
    ).rows  # fmt: skip
    assert shown(file, "SELECT comment FROM duckdb_views() WHERE view_name = 'models'") == [(COMMENTS["models"],)]


def test_an_older_duckdb_opens_it_and_reads_the_views_that_have_files(tmp_path: Path) -> None:
    store = write(tmp_path / "store", range(2))
    file = tmp_path / "catalog.duckdb"
    export_catalog(store.root, file)
    assert int.from_bytes(file.read_bytes()[12:20], "little") == 64  # the storage version of DuckDB 0.10 to 1.1
    sql = "SELECT sql FROM duckdb_views() WHERE view_name = '{}'"
    ((read,),) = shown(file, sql.format("spaces"))
    assert "read_parquet" in read
    assert "allow_empty" not in read  # an option of DuckDB 2


def test_it_follows_the_store_through_writes_and_folding(tmp_path: Path) -> None:
    root, file = tmp_path / "store", tmp_path / "catalog.duckdb"
    root.mkdir()
    export_catalog(root, file)  # of an empty store
    count = "SELECT count(*), count(DISTINCT fingerprint) FROM embeddings"
    assert shown(file, count) == [(0, 0)]
    store = write(root, range(6))
    assert shown(file, count) == [(6, 6)]
    singles = {path: path.read_bytes() for path in (root / FOLDER).glob("*.parquet")}
    fold(store)
    for path, content in singles.items():  # as of a fold that was killed: both are there, and count once
        path.write_bytes(content)
    assert shown(file, count) == [(6, 6)]
    write(root, range(8))
    fold(store)
    assert shown(file, count) == [(8, 8)]


def test_an_export_replaces_the_one_before_and_a_moved_store_is_exported_again(tmp_path: Path) -> None:
    store = write(tmp_path / "here", range(3))
    file = tmp_path / "catalog.duckdb"
    export_catalog(store.root, file)
    shutil.move(tmp_path / "here", tmp_path / "there")
    export_catalog(tmp_path / "there", file)
    assert shown(file, "SELECT count(*) FROM embeddings") == [(3,)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["catalog.duckdb", "there"]


@pytest.mark.parametrize(("name", "beside"), [("team [prod]", "team p"), ("a*b", "axxb"), ("a?b", "axb")])
def test_a_path_with_characters_of_patterns_is_that_store_alone(tmp_path: Path, name: str, beside: str) -> None:
    write(tmp_path / beside, range(5))
    store = write(tmp_path / name, range(3))
    file = tmp_path / "catalog.duckdb"
    export_catalog(store.root, file)
    assert shown(file, "SELECT count(*) FROM embeddings") == [(3,)]
    fold(store)
    assert shown(file, "SELECT count(*) FROM embeddings") == [(3,)]


def test_what_cannot_be_exported_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store at"):
        export_catalog(tmp_path / "nowhere", tmp_path / "x.duckdb")
    store = write(tmp_path / "store", range(1))
    with pytest.raises(StoreError, match="cannot be"):
        export_catalog(Store(store.root).root, tmp_path)
