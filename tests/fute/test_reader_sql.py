"""Rows that a query answers."""

from __future__ import annotations

import sqlite3

import duckdb
import pytest

from fute.config import DatasetConfig, SqlSource
from fute.data.ingest import dataset_fingerprint, ingest
from fute.data.read import source_identity, source_problems
from fute.errors import ConfigError, DataError
from tests import postgres
from tests.processes import free_ports

QUERY = "SELECT body AS text, kind AS label FROM tickets WHERE kind <> 'spam' ORDER BY number;"


def database(path, extra=0):
    """Twenty tickets and a spam."""
    rows = [(i, f"ticket number {i}", "bill" if i % 2 else "access") for i in range(20 + extra)] + [(99, "x", "spam")]
    connection = duckdb.connect(str(path)) if path.suffix == ".duckdb" else sqlite3.connect(path)
    connection.execute("CREATE TABLE tickets (number INTEGER, body VARCHAR, kind VARCHAR)")
    connection.executemany("INSERT INTO tickets VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return path


def config(name, query=QUERY):
    return DatasetConfig(id="tickets", data={"source": "sql", "database": name, "query": query})


@pytest.mark.parametrize("name", ["t.duckdb", "t.sqlite"])
def test_a_query_on_a_database_file_gives_a_dataset(tmp_path, name):
    database(tmp_path / name)
    dataset = ingest(config(name), tmp_path, 0)
    assert dataset.label_names == ("access", "bill")
    assert list(dataset.train.inputs.texts) == [f"ticket number {i}" for i in range(20)]
    assert dataset.fingerprint == dataset_fingerprint(config(name), tmp_path, 0)
    assert source_problems(config(name).data, ["text", "label"], tmp_path) == []


def test_what_was_written_and_what_is_asked_for_decide_the_identity(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        database(tmp_path / place / "t.sqlite", extra=place == "b")
    same = [source_identity(config(f"{place}/t.sqlite").data, tmp_path) for place in ("a", "a", "b")]
    assert same[0] == same[1] != same[2]
    assert (
        source_identity(config("a/t.sqlite", "SELECT body AS text, kind AS label FROM tickets").data, tmp_path)
        != same[0]
    )


def test_splits_are_queries_of_their_own(tmp_path):
    database(tmp_path / "t.duckdb")
    part = "SELECT body AS text, kind AS label FROM tickets WHERE number BETWEEN {} AND {} ORDER BY number"
    splits = {"train": part.format(0, 15), "test": part.format(16, 19)}
    dataset = ingest(config("t.duckdb", splits), tmp_path, 0)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 16, "test": 4}


@pytest.mark.parametrize("name", ["t.duckdb", "t.sqlite"])
def test_a_query_cannot_change_the_database(tmp_path, name):
    database(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(DataError, match="read"):
        ingest(config(name, "DELETE FROM tickets RETURNING body AS text, kind AS label"), tmp_path, 0)
    assert (tmp_path / name).read_bytes() == before


def test_what_is_wrong_is_told_without_reading_rows(tmp_path):
    database(tmp_path / "t.duckdb")
    (tmp_path / "notes.db").write_text("no database")

    def problems(name, query=QUERY):
        source = SqlSource(source="sql", database=name, query=query)
        return "\n".join(source_problems(source, ["text", "label"], tmp_path))

    assert "did you mean 'labell'. Columns there: text, labell" in problems(
        "t.duckdb", "SELECT body AS text, kind AS labell FROM tickets"
    )
    assert "tickets2" in problems("t.duckdb", "SELECT * FROM tickets2")
    assert "neither a DuckDB nor a SQLite file" in problems("notes.db")
    assert "no database 'gone.db'" in problems("gone.db")
    with pytest.raises(ConfigError, match="no database"):
        source_identity(SqlSource(source="sql", database="gone.db", query=QUERY), tmp_path)


@pytest.mark.parametrize("named", ["sqlite:///{}", "env:TICKETS_URL"])
def test_a_server_is_reached_by_a_url(tmp_path, monkeypatch, named):
    file = database(tmp_path / "t.sqlite")
    monkeypatch.setenv("TICKETS_URL", f"sqlite:///{file}")
    asked = config(named.format(file))
    dataset = ingest(asked, tmp_path, 0)
    assert list(dataset.train.inputs.texts) == [f"ticket number {i}" for i in range(20)]
    assert source_problems(asked.data, ["text", "label"], tmp_path) == []
    assert "no column" in source_problems(asked.data, ["text", "topic"], tmp_path)[0]


def test_what_a_server_answers_is_the_identity(tmp_path):
    file = database(tmp_path / "t.sqlite")
    asked = config(f"sqlite:///{file}")
    first = source_identity(asked.data, tmp_path)
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE unasked (x INTEGER)")
    assert source_identity(asked.data, tmp_path) == first
    connection.execute("UPDATE tickets SET body = 'another' WHERE number = 3")
    connection.commit()
    connection.close()
    assert source_identity(asked.data, tmp_path) != first


def test_a_query_changes_nothing_on_a_server(tmp_path):
    file = database(tmp_path / "t.sqlite")
    deleting = "DELETE FROM tickets WHERE kind <> 'spam' RETURNING body AS text, kind AS label"
    assert len(ingest(config(f"sqlite:///{file}", deleting), tmp_path, 0).train) == 20
    assert sqlite3.connect(file).execute("SELECT count(*) FROM tickets").fetchone() == (21,)


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("env:NO_SUCH_URL", "NO_SUCH_URL is not set"),
        ("postgresql+nodriver://host/x", "nodriver"),
        ("sqlite:///no/such/folder/t.sqlite", "unable to open"),
    ],
)
def test_a_server_that_cannot_be_reached_says_why(tmp_path, named, why):
    with pytest.raises((ConfigError, DataError), match=why):
        ingest(config(named), tmp_path, 0)


@pytest.mark.parametrize("url", ["postgresql://reader:hunter2@host/x", "postgresql://host/x?user=u&password=hunter2"])
def test_a_password_in_a_study_is_refused_and_not_repeated(url):
    with pytest.raises(ValueError, match="env:NAME") as caught:
        config(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL's programs are not installed")
def test_a_postgresql_server_is_asked_and_not_changed(tmp_path, monkeypatch):
    create_engine = pytest.importorskip("sqlalchemy").create_engine
    pytest.importorskip("psycopg2", reason="the extra `team` is not installed")
    (port,) = free_ports(1)
    url = f"postgresql+psycopg2://{postgres.USER}:{postgres.PASSWORD}@127.0.0.1:{port}/prefect"
    with postgres.postgres(postgres.programs(), port):
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE tickets (number INTEGER, body TEXT, kind TEXT)")
            connection.exec_driver_sql(
                "INSERT INTO tickets SELECT i, 'ticket number ' || i, CASE i & 1 WHEN 1 THEN 'bill' ELSE 'access' END "
                "FROM generate_series(0, 19) AS i"
            )
        monkeypatch.setenv("TICKETS_URL", url)
        asked = "SELECT body AS text, kind AS label FROM tickets WHERE body LIKE 'ticket%' ORDER BY number"
        dataset = ingest(config("env:TICKETS_URL", asked), tmp_path, 0)
        assert list(dataset.train.inputs.texts) == [f"ticket number {i}" for i in range(20)]
        assert source_problems(config("env:TICKETS_URL", asked).data, ["text", "topic"], tmp_path)
        deleting = "DELETE FROM tickets RETURNING body AS text, kind AS label"
        assert len(ingest(config("env:TICKETS_URL", deleting), tmp_path, 0).train) == 20
        assert ingest(config("env:TICKETS_URL", asked), tmp_path, 0).fingerprint == dataset.fingerprint
        assert postgres.PASSWORD not in str(dataset.provenance)
        engine.dispose()
    with pytest.raises(DataError) as caught:
        ingest(config("env:TICKETS_URL", asked), tmp_path, 0)
    assert postgres.PASSWORD not in str(caught.value)
