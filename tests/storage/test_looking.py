"""What a query cannot do, in every form that was tried, and what it can."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pytest

import fute
from fute.errors import FuteError
from storage import catalog
from storage.store import Store
from tests.docs_store import write_docs_store

# {s}: the store's folder; {o}: a folder outside, with secret.csv, secret.parquet and secret.json in it.
# Whatever changes data, put into every place of a query that can hold it.
CHANGES = """
COPY (SELECT 1 AS a) TO '{s}/responses' (FORMAT parquet, PER_THREAD_OUTPUT, OVERWRITE)
COPY (SELECT 1 AS a) TO '{s}/schema/version.json' (FORMAT json)
COPY (SELECT '<script>' AS a) TO '{s}/reports/store.html' (FORMAT csv)
COPY models TO '{s}/models.parquet'
INSERT INTO models SELECT * FROM models
INSERT INTO unexported_responses (key) VALUES ('x')
UPDATE models SET score = 1
DELETE FROM responses
""".strip().splitlines()

AROUND = [
    "{0}",
    "WITH x AS ({0}) SELECT * FROM x",
    "WITH x AS MATERIALIZED ({0}) SELECT 1",
    "SELECT * FROM (WITH y AS ({0}) SELECT * FROM y)",
    "SELECT (WITH y AS ({0}) SELECT count(*) FROM y)",
    "EXPLAIN ANALYZE WITH x AS ({0}) SELECT * FROM x",
    "EXPLAIN (ANALYZE, FORMAT json) WITH x AS ({0}) SELECT * FROM x",
    "EXPLAIN ANALYZE {0}",
    "PREPARE p AS {0}",
    "DESCRIBE WITH x AS ({0}) SELECT * FROM x",
    "SELECT 1 UNION ALL (WITH x AS ({0}) SELECT 1 FROM x)",
    "CREATE MACRO m() AS TABLE WITH x AS ({0}) SELECT * FROM x",
]

# Rows from files, at every place where a table may stand.
FILES = """
'{o}/secret.csv'
'{o}/secret.parquet'
"{o}/secret.json"
'{s}/link.csv'
'{s}/models/*/card.parquet'
'https://127.0.0.1:9/x.parquet'
's3://bucket/x.parquet'
read_csv('{o}/secret.csv')
read_csv_auto('{o}/secret.csv')
sniff_csv('{o}/secret.csv')
read_parquet('{o}/secret.parquet')
parquet_scan('{s}/models/*/card.parquet')
parquet_metadata('{o}/secret.parquet')
parquet_schema('{o}/secret.parquet')
parquet_kv_metadata('{o}/secret.parquet')
parquet_file_metadata('{o}/secret.parquet')
read_json('{o}/secret.json')
read_json_auto('{o}/secret.json')
read_ndjson('{o}/secret.json')
read_json_objects('{o}/secret.json')
read_text('{s}/link.csv')
read_blob('{o}/*')
read_duckdb('{o}/x.duckdb')
glob('{o}/*')
glob('{s}/link.csv')
glob('{s}/linked/*')
query('SELECT * FROM read_csv(''{o}/secret.csv'')')
query('COPY (SELECT 1) TO ''{s}/x.csv''')
query_table('{o}/secret.csv')
json_execute_serialized_sql(json_serialize_sql('SELECT * FROM read_text(''{o}/secret.csv'')'))
which_secret('{o}/secret.csv', 's3')
duckdb_secrets()
enable_logging()
enable_profiling()
checkpoint()
force_checkpoint()
""".strip().splitlines()

FROM = [
    "SELECT * FROM {0}",
    "FROM {0}",
    "WITH x AS (FROM {0}) SELECT * FROM x",
    "EXPLAIN SELECT * FROM {0}",
    "SELECT id FROM models WHERE EXISTS (SELECT 1 FROM {0})",
    "SELECT * FROM models, LATERAL (SELECT * FROM {0}) t",
]

OTHERS = """
CREATE TABLE t (a INTEGER)
CREATE TABLE t AS SELECT * FROM models
CREATE OR REPLACE VIEW models AS SELECT 1
CREATE TEMP TABLE t AS SELECT 1
CREATE SCHEMA s
CREATE SEQUENCE q
CREATE TYPE mood AS ENUM ('good')
CREATE INDEX i ON unexported_responses (key)
CREATE SECRET s (TYPE s3)
CREATE PERSISTENT SECRET s (TYPE s3)
CREATE MACRO m(a) AS a
ALTER VIEW models RENAME TO m
DROP VIEW models
DROP VIEW IF EXISTS models CASCADE
TRUNCATE unexported_responses
MERGE INTO unexported_responses USING models ON (key = id) WHEN MATCHED THEN DELETE
ATTACH '{s}/x.db'
ATTACH ':memory:' AS other
DETACH memory
USE memory
EXPORT DATABASE '{s}/export'
IMPORT DATABASE '{o}'
INSTALL httpfs
FORCE INSTALL httpfs
LOAD httpfs
LOAD '{o}/x.duckdb_extension'
UPDATE EXTENSIONS
SET enable_external_access = true
SET GLOBAL allowed_directories = ['{o}']
SET temp_directory = '{s}'
SET VARIABLE x = 1
RESET lock_configuration
PRAGMA enable_external_access = true
PRAGMA database_list
PRAGMA enable_profiling = 'json'
PRAGMA profiling_output = '{s}/profile.json'
PRAGMA import_database('{o}')
CALL enable_logging(storage = 'file', storage_config = {{'path': '{s}/log'}})
CALL glob('{o}/*')
CALL pragma_version()
CHECKPOINT
FORCE CHECKPOINT
VACUUM
ANALYZE
BEGIN TRANSACTION
COMMIT
ROLLBACK
EXECUTE p
DEALLOCATE p
EXPLAIN ANALYZE DROP VIEW runs
EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1
EXPLAIN /* x */ ANALYZE COPY (SELECT 1) TO '{s}/x.csv'
EXPLAIN ANALYZE /* /* */ SELECT 1 -- */ COPY (SELECT 1) TO '{s}/x.csv'
/* x */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{s}/x.csv'
SELECT 1; COPY (SELECT 1) TO '{s}/x.csv'
SELECT 1; SELECT 2
COPY unexported_responses FROM '{o}/secret.csv'
COPY FROM DATABASE memory TO other
SELECT getenv('HOME')
SELECT system.main.getenv('HOME')
SELECT write_log('x')
SELECT nextval('q')
SELECT json_serialize_plan('SELECT * FROM read_csv(''{o}/secret.csv'')')
SELECT id FROM models ORDER BY (SELECT count(*) FROM read_text('{o}/secret.csv'))
SELECT id FROM models LIMIT (SELECT count(*) FROM read_text('{o}/secret.csv'))
SELECT list_transform([1], lambda x: (SELECT content FROM read_text('{o}/secret.csv')))
SELECT CASE WHEN (SELECT true FROM glob('{o}/*')) THEN 1 END
SELECT count(*) FILTER (WHERE EXISTS (FROM glob('{o}/*'))) FROM models
SELECT row_number() OVER (ORDER BY (SELECT file FROM glob('{o}/*'))) FROM models
SELECT * FROM nearest((SELECT content FROM read_text('{o}/secret.csv')))
SELECT * FROM range((SELECT count(*) FROM glob('{o}/*')))
SELECT * FROM models JOIN '{o}/secret.csv' s ON true
SELECT * FROM models POSITIONAL JOIN '{o}/secret.csv'
SELECT * FROM models UNION BY NAME SELECT * FROM '{o}/secret.csv'
WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT a FROM '{o}/secret.csv') SELECT * FROM r
VALUES ((SELECT content FROM read_text('{o}/secret.csv')))
DESCRIBE '{o}/secret.csv'
SUMMARIZE '{o}/secret.csv'
DESCRIBE SELECT * FROM read_csv('{o}/secret.csv')
TABLE '{o}/secret.csv'
PIVOT '{o}/secret.csv' ON a USING count(*)
UNPIVOT '{o}/secret.csv' ON a INTO NAME n VALUE v
""".strip().splitlines()

REFUSED = [
    *(around.replace("{0}", change) for change in CHANGES for around in AROUND),
    *(around.replace("{0}", file) for file in FILES for around in FROM),
    *OTHERS,
]

ALLOWED = """
SELECT 1
SELECT count(*) FROM models
FROM models SELECT id
TABLE models
VALUES (1, 'COPY x TO y')
SELECT 'DROP TABLE x; INSTALL y' AS said, $tag$COPY 'a' TO 'b'$tag$ AS more
SELECT id FROM "models" -- COPY models TO 'x'
SELECT id FROM main.models
SELECT ID FROM MODELS
EXPLAIN SELECT count(*) FROM runs
EXPLAIN ANALYZE SELECT count(*) FROM runs
EXPLAIN (FORMAT json) SELECT count(*) FROM runs
explain (analyze, format json) SELECT count(*) FROM runs
DESCRIBE models
SUMMARIZE models
SHOW TABLES
SHOW ALL TABLES
SELECT column_name FROM (DESCRIBE runs)
SELECT * FROM information_schema.columns WHERE table_name = 'models'
SELECT * FROM duckdb_columns() WHERE table_name = 'models'
SELECT * FROM duckdb_views()
SELECT * FROM pg_catalog.pg_tables
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT sum(n) FROM r
WITH a AS MATERIALIZED (SELECT * FROM models), b AS (SELECT * FROM a) SELECT count(*) FROM b
WITH "my models" AS (FROM models) SELECT count(*) FROM "my models"
SELECT * FROM models m, LATERAL (SELECT count(*) FROM outputs WHERE model = m.ref) t
SELECT unnest(vector) FROM embeddings
SELECT * FROM unnest([1, 2]), range(3), generate_series(1, 2)
SELECT * FROM json_each('[1, 2]')
SELECT kind, count(*) FROM models GROUP BY CUBE (kind, task)
SELECT id FROM models QUALIFY row_number() OVER (PARTITION BY kind ORDER BY id) = 1
SELECT DISTINCT ON (kind) id FROM models ORDER BY kind, id
SELECT COLUMNS('.*id') FROM models
SELECT * EXCLUDE (settings) REPLACE (upper(id) AS id) FROM models
SELECT list_transform(vector, lambda x: x + 1), vector[1:2], {'a': 1, 'b': [2]} FROM embeddings
SELECT settings->>'kind', CAST(score AS VARCHAR), TRY_CAST(id AS INTEGER) FROM models
SELECT * FROM models ASOF JOIN runs ON models.created_at >= runs.created_at
SELECT id FROM models UNION ALL BY NAME SELECT id FROM datasets EXCEPT SELECT 'x' ORDER BY 1 LIMIT 3 OFFSET 1
SELECT * FROM models USING SAMPLE 50%
SELECT * FROM (SELECT kind, id FROM models) PIVOT (count(id) FOR kind IN ('prompt', 'sklearn'))
SELECT EXISTS (FROM models), (SELECT max(id) FROM models), 'a' IN (SELECT id FROM models)
SELECT sum(tokens_in) FILTER (model = 'small') OVER () FROM responses
SELECT candidate FROM nearest('reviews', k := 1)
SELECT * FROM most_similar((SELECT min(id) FROM models), k := 2)
SELECT now() IS NOT NULL, random() < 2, version(), current_setting('TimeZone')
SELECT count(*) FROM prompt_answers
SELECT label_name, count(*) FROM dataset_rows GROUP BY ALL ORDER BY ALL
""".strip().splitlines()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = write_docs_store(tmp_path_factory.mktemp("looking") / "store").root
    outside = root.parent / "outside"
    outside.mkdir()
    for name in ("secret.csv", "secret.json"):
        (outside / name).write_text('{"a": "the secret"}')
    with duckdb.connect() as con:
        con.execute(f"COPY (SELECT 'the secret' AS a) TO '{outside}/secret.parquet'")
    Store(root).put_report("store.html", "ours")
    (root / "link.csv").symlink_to(outside / "secret.csv")
    (root / "linked").symlink_to(outside)
    return Store(root)


def state(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}


def test_no_query_changes_anything_or_shows_a_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    before = state(store.root.parent)
    places = {"s": str(store.root), "o": str(store.root.parent / "outside")}
    answered = []
    with catalog.Catalog(store.root) as opened:
        for statement in REFUSED:
            try:
                said = str(opened.query(statement.format(**places)).rows)
                answered.append(statement)
            except FuteError as exc:
                said = str(exc)
            assert "the secret" not in said, statement
        assert opened.query("SELECT count(*) FROM models").rows == [(4,)]
    harmless = ("EXPLAIN SELECT", "checkpoint()", "write_log", "json_serialize_plan")
    assert [statement for statement in answered if not any(part in statement for part in harmless)] == []
    assert state(store.root.parent) == before
    assert os.listdir(tmp_path) == []


def test_whatever_only_looks_is_answered(store: Store) -> None:
    with catalog.Catalog(store.root) as opened:
        for statement in ALLOWED:
            answer = opened.query(statement)
            assert answer.columns, statement
            assert opened.arrow(statement).num_rows == len(answer.rows) or "SAMPLE" in statement, statement


@pytest.mark.parametrize("statement", ["WITH x AS (COPY (SELECT 1 AS a) TO 'x.csv') SELECT * FROM x", "FROM glob('*')"])
def test_every_door_takes_the_same_path(store: Store, statement: str) -> None:
    doors = [
        lambda: catalog.query(store.root, statement),
        lambda: fute.open(store.root).sql(statement),
        lambda: fute.open(store.root).df(statement),
    ]
    for door in doors:
        with pytest.raises(FuteError):
            door()


def test_values_are_bound_also_where_they_look_like_statements(store: Store) -> None:
    said = "'; DROP VIEW models; --"
    assert catalog.query(store.root, "SELECT $said AS said", {"said": said}).rows == [(said,)]
    assert catalog.query(store.root, "SELECT ? AS said", [said]).rows == [(said,)]


def test_a_query_that_is_nested_without_end_is_refused(store: Store) -> None:
    for sql in ("SELECT " + "(" * 3000 + "1" + ")" * 3000, "SELECT " + "1 + " * 3000 + "1"):
        with pytest.raises(FuteError):
            catalog.query(store.root, sql)
