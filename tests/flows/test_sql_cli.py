"""`fute sql`: every format, to the terminal and to a file; the export; mistakes."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import fute
from flows.cli import main
from storage.stamp import Stamp
from storage.store import Store
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


EQUAL = "SELECT 1 AS a, 2 AS a, 3 AS b, 4 AS a_1, 5 AS a"
NUMBERED = {"a": 1, "a_2": 2, "b": 3, "a_1": 4, "a_3": 5}


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_columns_of_one_name_are_numbered_in_every_format(store: str, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"x.{form}"
    assert call(store, EQUAL, "--out", str(path)).exit_code == 0
    (row,) = read(path)
    assert {name: int(str(value)) for name, value in row.items()} == NUMBERED
    assert list(row) == list(NUMBERED)


def test_columns_of_one_name_are_numbered_on_the_terminal_and_in_python_too(store: str, tmp_path: Path) -> None:
    assert json.loads(call(store, EQUAL, "--json").stdout) == [NUMBERED]
    assert call(store, EQUAL, "--csv").stdout.splitlines() == ["a,a_2,b,a_1,a_3", "1,2,3,4,5"]
    table = call(store, EQUAL).stdout
    assert re.findall(r"\w+", table.splitlines()[1]) == list(NUMBERED)
    path = tmp_path / "table"
    assert call(store, EQUAL, "--out", str(path)).exit_code == 0
    assert re.findall(r"\w+", path.read_text().splitlines()[1]) == list(NUMBERED)
    assert fute.open(store).sql(EQUAL).to_pylist() == [NUMBERED]
    assert fute.open(store).df(EQUAL).to_dict("records") == [NUMBERED]
    joined = "SELECT * FROM embeddings a JOIN embeddings b USING (fingerprint)"
    columns = fute.open(store).sql(joined).column_names
    assert len(set(columns)) == len(columns)
    assert {"run_id", "run_id_1"} <= set(columns)


def test_json_has_null_where_sql_has_no_finite_number(store: str, tmp_path: Path) -> None:
    query = """SELECT 'NaN'::FLOAT AS a, ['inf'::DOUBLE, 1.5] AS b, {'c': '-inf'::DOUBLE} AS d, NULL AS e, 'NaN' AS f,
                      MAP {1: 'NaN'::DOUBLE} AS g, 1.5::DECIMAL(3, 1) AS h"""
    wanted = [{"a": None, "b": [None, 1.5], "d": {"c": None}, "e": None, "f": "NaN", "g": {"1": None}, "h": "1.5"}]
    path = tmp_path / "x.json"
    assert call(store, query, "--out", str(path)).exit_code == 0
    for text in (call(store, query, "--json").stdout, path.read_text()):
        assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == wanted


HOSTILE = "[red]a[/red] [/b] \x1b[2J\x1b]0;title\x07 \x9b31m \r \u202eabc"
HARMLESS = r"[red]a[/red] [/b] \x1b[2J\x1b]0;title\x07 \x9b31m \x0d \u202eabc"


def test_cells_and_names_of_columns_are_neither_markup_nor_commands_to_a_terminal(store: str) -> None:
    for query in (f"SELECT '{HOSTILE}' AS a", f'SELECT 1 AS "{HOSTILE}"', f'SELECT * FROM "{HOSTILE}"'):
        output = call(store, query).output
        assert HARMLESS in output
        assert not set(output) & set("\x1b\x07\x9b\r\u202e")


def test_csv_for_a_pipe_holds_values_as_they_are(store: str) -> None:
    ((_,), (said,)) = csv.reader(io.StringIO(call(store, f"SELECT '{HOSTILE}' AS a", "--csv").stdout, newline=""))
    assert said == HOSTILE


def test_ls_and_show_print_names_and_texts_as_they_are(tmp_path: Path) -> None:
    store = Store(tmp_path)
    prompt = {"id": "[bold]p[/bold]", "template": f"{{{{text}}}} {HOSTILE}", "verbalizer": "{}", "answer": "label"}
    store.put_prompt(prompt, Stamp())
    shown = CliRunner().invoke(main, ["ls", "prompts", "--store", str(tmp_path)]).output
    told = CliRunner().invoke(main, ["show", "[bold]p[/bold]", "--store", str(tmp_path)]).output
    for output in (shown, told):
        assert "[bold]p[/bold]" in output
        assert not set(output) & set("\x1b\x07\x9b\r\u202e")
    assert HARMLESS in told


def test_a_statement_that_writes_is_refused_by_the_command_too(store: str, tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    result = call(store, f"WITH x AS (COPY (SELECT 1) TO '{target}') SELECT * FROM x", "--json")
    assert result.exit_code == 1
    assert "error: Permission Error: Cannot access file" in result.output
    assert not target.exists()


def test_csv_shows_single_precision_as_it_was_meant(store: str) -> None:
    query = "SELECT CAST(0.95 AS FLOAT) AS single, 0.1::DOUBLE + 0.2 AS double, [CAST(0.1 AS FLOAT)] AS list, 7 AS n"
    assert call(store, query, "--csv").output.splitlines()[1] == "0.95,0.30000000000000004,[0.1],7"
    tiny, huge, most = "1.4e-45", "1e+300", "3.4028235e+38"
    numbers = f"SELECT CAST({tiny} AS FLOAT), {huge}::DOUBLE, CAST({most} AS FLOAT), 'nan'::FLOAT, '-inf'::DOUBLE"
    written = next(csv.reader([call(store, numbers, "--csv").output.splitlines()[1]]))
    assert [float(cell) for cell in written[:3]] == [1e-45, 1e300, 3.4028235e38]
    assert written[3:] == ["nan", "-inf"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT * FROM nearest('m11', k := 3)", "note: no subject 'm11' is in the store; did you mean 'm1'?"),
        ("SELECT * FROM compare('m1', 'mm2')", "note: no subject 'mm2' is in the store; did you mean 'm2'?"),
        ("SELECT * FROM near_duplicates('s2', 0.9)", "note: no space 's2' is in the store"),
    ],
)
def test_a_macro_that_is_asked_for_what_is_not_there_says_so(store: str, query: str, told: str) -> None:
    result = call(store, query)
    assert result.exit_code == 0
    assert told in result.stderr
    assert "note" not in call(store, "SELECT * FROM nearest('m1', k := 0)").stderr


def test_retire_says_what_it_did_and_undoes_it(tmp_path: Path) -> None:
    root = str(write(tmp_path, range(3)).root)

    def there(*arguments: str) -> list[str]:
        done = CliRunner().invoke(main, ["retire", "--store", root, *arguments])
        assert done.exit_code == 0, done.output
        near = CliRunner().invoke(main, ["nearest", "--store", root, "m0", "--json"])
        return [*done.stdout.splitlines(), *(row["candidate"] for row in json.loads(near.stdout))]

    assert there("m2") == ["model m2: retired", "m1"]
    assert sorted(there("m2", "--undo")) == ["m1", "m2", "model m2: counts again"]
    wrong = CliRunner().invoke(main, ["retire", "--store", root, "m22"])
    assert wrong.exit_code == 1
    assert "no dataset or model 'm22' is embedded" in wrong.stderr
