"""A query is one SELECT; which tables it asks for says which files are read for it.

What it may do is not judged here: the connection (storage/catalog.py) can open no file, and holds nothing that lasts.
"""

from __future__ import annotations

import json
import re
from typing import Any

import duckdb

from fute.errors import StoreError

ONE_SELECT = "a query is one SELECT (or EXPLAIN); the Parquet files are the record, and SQL only looks at them"

_EXPLAIN = re.compile(
    r"\s*EXPLAIN\s+(ANALYZE\s+)?(\(\s*(ANALYZE|FORMAT\s+\w+)(\s*,\s*(ANALYZE|FORMAT\s+\w+))*\s*\)\s*)?", re.IGNORECASE
)


def one_select(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[duckdb.Statement, frozenset[str]]:
    """The statement of a query, and the tables and table functions whose rows it asks for, in lower case.

    Raises:
        StoreError: it is not one SELECT.
        duckdb.Error: it is no SQL.
    """
    statements = con.extract_statements(sql)
    if len(statements) != 1:
        raise StoreError(f"{ONE_SELECT}; these are {len(statements)} statements")
    kind = _kind(statements[0])
    if kind == "EXPLAIN" and (explained := _EXPLAIN.match(sql)):
        sql = sql[explained.end() :]
        kind = " and ".join(map(_kind, con.extract_statements(sql)))
    if kind != "SELECT":
        raise StoreError(f"{ONE_SELECT}; this is {kind.replace('_', ' ') or 'nothing'}")
    return statements[0], names_in(con, sql)


def names_in(con: duckdb.DuckDBPyConnection, select: str) -> frozenset[str]:
    """The tables and table functions whose rows a SELECT asks for. Raises StoreError: as above."""
    ((text,),) = con.execute("SELECT json_serialize_sql($sql)", {"sql": select}).fetchall()
    try:
        tree = json.loads(text)
    except RecursionError as exc:
        raise StoreError("the query is nested too deeply; split it") from exc
    if tree["error"]:
        raise StoreError(f"{ONE_SELECT}; this cannot be looked into: {tree['error_message']}")
    names: set[str] = set()
    left: list[Any] = [tree["statements"]]
    while left:
        node = left.pop()
        if isinstance(node, list):
            left += node
        elif isinstance(node, dict):
            if node.get("type") == "BASE_TABLE":
                names.add(str(node["table_name"]).lower())
            elif node.get("type") == "TABLE_FUNCTION":
                names.add(str(node["function"]["function_name"]).lower())
            left += node.values()
    return frozenset(names)


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:  # of a kind that DuckDB's Python has no name for
        return "another statement"
