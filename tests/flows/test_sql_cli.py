"""`fute sql`: every format, to the terminal and to a file; the export; mistakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from tests.storage.small_store import vector, write

QUERY = "SELECT subject, vector, created_at, task FROM embeddings ORDER BY subject"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write(tmp_path_factory.mktemp("sql"), range(3)).root)


def call(store: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["sql", "--store", store, *arguments])


def read(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(newline="", encoding="utf-8") as file:
        return json.load(file) if path.suffix == ".json" else list(csv.DictReader(file))


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_a_file_holds_whole_values_in_the_format_of_its_name(store: str, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"answer.{form}"
    result = call(store, QUERY, "--out", str(path))
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "3 rows" in result.stderr
    rows = read(path)
    assert [row["subject"] for row in rows] == ["m0", "m1", "m2"]
    values = rows[1]["vector"]
    assert (json.loads(values) if isinstance(values, str) else values) == pytest.approx(vector(1).tolist())
    assert rows[0]["task"] in (None, "")
    assert str(rows[0]["created_at"]).startswith("20")


def test_the_terminal_gets_a_table_json_or_csv(store: str, tmp_path: Path) -> None:
    assert "3 rows" in call(store, QUERY).stdout
    assert "3 rows" in call(store, QUERY, "--format", "table").stdout
    assert json.loads(call(store, QUERY, "--format", "json").stdout) == json.loads(call(store, QUERY, "--json").stdout)
    assert call(store, QUERY, "--format", "csv").stdout == call(store, QUERY, "--csv").stdout
    told = tmp_path / "told"
    assert call(store, QUERY, "--out", str(told)).exit_code == 0
    assert "subject" in told.read_text()


def test_export_writes_a_catalog_that_plain_duckdb_opens(store: str, tmp_path: Path) -> None:
    file = tmp_path / "catalog.duckdb"
    result = call(store, "--export", str(file))
    assert result.exit_code == 0, result.output
    with duckdb.connect(str(file), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM embeddings").fetchall() == [(3,)]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "give a query, or --export"),
        (("SELECT 1", "--format", "parquet"), 2, "needs --out"),
        (("SELECT 1", "--format", "xlsx"), 2, "xlsx"),
        (("SELECT 1", "--out", "/dev/null/x.csv"), 1, "cannot be written"),
        (("DROP VIEW models",), 1, "one SELECT"),
        (("SELECT * FROM modles",), 1, "models"),
    ],
)
def test_a_mistake_is_told(store: str, arguments: tuple[str, ...], code: int, told: str) -> None:
    result = call(store, *arguments)
    assert result.exit_code == code
    assert told in result.output
    assert "Traceback" not in result.output
