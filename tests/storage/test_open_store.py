"""`fute.open`: Arrow and pandas out, nothing in, safe between threads."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import fute
from fute.errors import NotInStoreError, StoreError
from storage.views import COMMENTS
from tests.storage.small_store import write


def test_a_notebook_gets_arrow_and_pandas(tmp_path: Path) -> None:
    write(tmp_path, range(4))
    with fute.open(tmp_path) as store:
        table = store.sql("SELECT subject, vector FROM embeddings WHERE subject = $s", {"s": "m2"})
        assert isinstance(table, pa.Table)
        assert (table.num_rows, len(table["vector"][0])) == (1, 4)
        assert store.sql("SELECT ? AS a", [3])["a"].to_pylist() == [3]
        frame = store.df("SELECT subject, dim FROM embeddings ORDER BY subject")
        assert frame["subject"].tolist() == ["m0", "m1", "m2", "m3"]
        found = store.nearest("m1", k=2)
        assert found["rank"].to_pylist() == [1, 2]
        assert store.near_duplicates("s1", -1.0).num_rows == 6


def test_it_sees_what_is_written_while_it_is_open(tmp_path: Path) -> None:
    write(tmp_path, range(2))
    store = fute.open(str(tmp_path))
    write(tmp_path, range(3))
    assert store.sql("SELECT count(*) AS n FROM embeddings")["n"].to_pylist() == [3]


def test_views_lists_every_documented_column(tmp_path: Path) -> None:
    views = fute.open(tmp_path).views().to_pylist()
    assert {row["view"] for row in views} == set(COMMENTS)
    types = {(row["view"], row["column"]): row["type"] for row in views}
    assert types["embeddings", "vector"] == "FLOAT[]"
    assert types["runs", "created_at"] == "TIMESTAMP WITH TIME ZONE"


def test_it_only_reads(tmp_path: Path) -> None:
    write(tmp_path, range(1))
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    store = fute.open(tmp_path)
    for query in ("DROP VIEW embeddings", "COPY models TO 'x.csv'", "SET threads = 1", "ATTACH 'x.db'"):
        with pytest.raises(StoreError, match="one SELECT"):
            store.sql(query)
    with pytest.raises(StoreError, match="(?i)permission|disabled"):
        store.sql("SELECT * FROM read_text('/etc/hostname')")
    with pytest.raises(StoreError, match="(?i)permission|disabled"):
        store.sql("SELECT * FROM glob('/etc/*')")
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("something else")
    with pytest.raises(NotInStoreError, match="no store at"):
        fute.open(tmp_path / "other")
    with pytest.raises(NotInStoreError, match="no store at"):
        fute.open(tmp_path / "nowhere")


def test_threads_may_ask_at_once(tmp_path: Path) -> None:
    write(tmp_path, range(20))
    store = fute.open(tmp_path)
    expected = store.nearest("m3", k=3)["candidate"].to_pylist()
    answers: list[tuple[int, list[str]]] = []

    def ask() -> None:
        n = store.sql("SELECT count(*) AS n FROM embeddings")["n"][0].as_py()
        answers.append((n, store.nearest("m3", k=3)["candidate"].to_pylist()))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(20, expected)] * 12
    assert np.isfinite(store.nearest("m3", k=3)["similarity"].to_numpy()).all()
