"""A statement that only looks: one SELECT, and whatever stands inside it, judged by what it does.

The parsed statement is walked, since a type tells little: a SELECT may hold a COPY, and a function may read files. This
is the first lock. The second is the connection (storage/catalog.py), which can open no file at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import duckdb

from fute.errors import StoreError

ONE_SELECT = "a query is one SELECT (or EXPLAIN); the Parquet files are the record, and SQL only looks at them"

ONE_VIEW = "a query asks for rows of the store's views (see `fute ls`)"

_EXPLAIN = re.compile(
    r"\s*EXPLAIN\s+(ANALYZE\s+)?(\(\s*(ANALYZE|FORMAT\s+\w+)(\s*,\s*(ANALYZE|FORMAT\s+\w+))*\s*\)\s*)?", re.IGNORECASE
)
# Whatever else a CTE or a subquery may be changes data.
_QUERIES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
# Table functions that make their rows of what they are given, or tell what the connection knows. Others read files,
# run SQL from a text, or change a setting.
_TABLE_FUNCTIONS = {
    "unnest",
    "range",
    "generate_series",
    "repeat",
    "repeat_row",
    "json_each",
    "json_tree",
    "regexp_split_to_table",
    "duckdb_columns",
    "duckdb_views",
    "duckdb_tables",
    "duckdb_schemas",
    "duckdb_databases",
    "duckdb_functions",
    "duckdb_types",
    "duckdb_keywords",
    "pragma_table_info",
    "pragma_show",
    "pragma_version",
    "pg_timezone_names",
}
# Functions that do more than compute a value.
_FUNCTIONS = {"getenv", "write_log", "nextval", "currval", "setval", "json_serialize_plan"}
# A table is named by one word; anything else is a file or an address.
_A_FILE = re.compile(r"[^\w$ ]")


@dataclass(frozen=True)
class Query:
    """A statement that may run, and the tables and table functions whose rows it asks for, in lower case."""

    statement: duckdb.Statement
    names: frozenset[str]


def only_looking(con: duckdb.DuckDBPyConnection, sql: str, macros: Collection[str] = ()) -> Query:
    """The statement of a query.

    Args:
        macros: table functions that may be used beside those of DuckDB that touch nothing.

    Raises:
        StoreError: it is not one SELECT, or something in it changes data or touches a file; the message names it.
        duckdb.Error: it is no SQL.
    """
    statements = con.extract_statements(sql)
    if len(statements) != 1:
        raise StoreError(f"{ONE_SELECT}; these are {len(statements)} statements")
    (statement,) = statements
    kind = _kind(statement)
    # Without comments in between: what looks like the end of one to us may not be its end to DuckDB.
    if kind == "EXPLAIN" and (explained := _EXPLAIN.match(sql)):
        sql = sql[explained.end() :]
        kind = " and ".join(map(_kind, con.extract_statements(sql)))
    if kind != "SELECT":
        raise StoreError(f"{ONE_SELECT}; this is {kind.replace('_', ' ') or 'nothing'}")
    return Query(statement, names_in(con, sql, macros))


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:  # of a kind that DuckDB's Python has no name for
        return "another statement"


def names_in(con: duckdb.DuckDBPyConnection, select: str, macros: Collection[str] = ()) -> frozenset[str]:
    """The tables and table functions whose rows a SELECT asks for. Raises StoreError: as above."""
    ((text,),) = con.execute("SELECT json_serialize_sql($sql)", {"sql": select}).fetchall()
    try:
        tree = json.loads(text)
    except RecursionError as exc:
        raise StoreError("the query is nested too deeply; split it") from exc
    if tree["error"]:
        raise StoreError(f"{ONE_SELECT}; this cannot be looked into: {tree['error_message']}")
    names: set[str] = set()
    left: list[tuple[Any, bool]] = [(tree["statements"], False)]
    while left:
        node, described = left.pop()
        if isinstance(node, list):
            left += [(part, described) for part in node]
        elif isinstance(node, dict):
            name = _asked_for(node, macros)
            if name is not None and not described:  # DESCRIBE tells columns, and needs no rows
                names.add(name)
            described |= node.get("show_type") == "DESCRIBE"
            left += [(part, described) for part in node.values()]
    return frozenset(names)


def _asked_for(node: dict[str, Any], macros: Collection[str]) -> str | None:
    """The table or table function that a node of the tree names. Raises StoreError: it does more than look."""
    kind = node.get("type")
    if "info_type" in node or (isinstance(kind, str) and kind.endswith("_NODE") and kind not in _QUERIES):
        what = str(kind).removesuffix("_NODE").removesuffix("_QUERY").replace("_", " ")
        raise StoreError(f"{what} within a query changes data or files; {ONE_SELECT}")
    if kind == "BASE_TABLE":
        name = str(node["table_name"])
        if _A_FILE.search(name):
            raise StoreError(f"'{name}' names a file, and files are disabled; {ONE_VIEW}")
        return name.lower()
    if kind == "TABLE_FUNCTION":
        name = str(node["function"]["function_name"]).lower()
        if name not in _TABLE_FUNCTIONS and name not in macros:
            raise StoreError(f"the function {name} is disabled, for it may do more than look; {ONE_VIEW}")
        return name
    if kind == "FUNCTION" and str(node["function_name"]).lower() in _FUNCTIONS:
        raise StoreError(
            f"the function {node['function_name']} is disabled, for it does more than compute; {ONE_SELECT}"
        )
    return None
