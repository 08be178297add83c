"""DuckDB looks at the store: views, macros and read-only queries. The Parquet files stay the record.

Every connection is its own, in memory, and can open no file: whatever a query says, it changes nothing and reads
nothing but the store. Files are read by Arrow, only those of the views that a query asks for, so that a damaged one is
in nobody's way but theirs who need it (storage/view_files.py).

A view is seen as it was when it was first asked for: its files are listed then. What the views are: storage/views.py.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from fute.errors import StoreError
from storage.looking import names_in, one_select
from storage.responses import LEDGER, ResponseStore
from storage.schema_version import require_readable
from storage.seal import UNREADABLE
from storage.view_files import View, first_damaged, live_files, rows_of
from storage.views import COMMENTS, QUERIES, READ, TABLE_MACROS, create_views, nulls

T = TypeVar("T")

TRIES = 10


def connect(root: Path) -> duckdb.DuckDBPyConnection:
    """An in-memory connection with all views and macros, none of which has rows yet; it can open no file.

    Raises:
        StoreError: the store was made by a later fute.
    """
    require_readable(root)
    # A large sort may need the disk: there, and not in the folder where the user happens to be.
    spill = Path(tempfile.gettempdir()) / f"fute-sql-{uuid.uuid4().hex}"
    con = duckdb.connect(config={"enable_external_access": "false", "temp_directory": str(spill)})
    try:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET python_enable_replacements = false")
        con.execute("SET autoload_known_extensions = false")
        # Nobody may take them for empty.
        create_views(con, lambda view: f"SELECT {nulls(view.schema)} WHERE error('not looked at') IS NULL")
        con.execute("SET lock_configuration = true")
    except BaseException:
        con.close()
        raise
    return con


@cache
def _behind() -> dict[str, frozenset[str]]:
    """By every view and macro, the views of files that it is made of."""
    found = {view.files.name: frozenset([view.files.name]) for view in READ}
    with duckdb.connect() as con:
        for name, query in {**QUERIES, **TABLE_MACROS}.items():
            found[name] = frozenset().union(*(found.get(used, ()) for used in names_in(con, query)))
    return found


@dataclass(frozen=True)
class Answer:
    columns: list[str]
    rows: list[tuple[Any, ...]]

    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


Parameters = Sequence[Any] | dict[str, Any] | None


def query(root: Path, sql: str, parameters: Parameters = None) -> Answer:
    """Run one query over the store and fetch all of its rows. For several, `Catalog` spares making the views again.

    Raises:
        StoreError: the query is wrong; the message is DuckDB's, with the names of the views.
    """
    with Catalog(root) as catalog:
        return catalog.query(sql, parameters)


class Catalog:
    """One connection for several queries: each view as it is when first asked for. For one thread, in a `with`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> Catalog:
        with _as_store_errors():
            self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._con.close()

    def query(self, sql: str, parameters: Parameters = None) -> Answer:
        """Run one query and fetch all of its rows. Raises StoreError: the query is wrong, or a file that it needs."""

        def fetch(statement: duckdb.Statement) -> Answer:
            result = self._con.execute(statement, parameters)
            return Answer(numbered([column[0] for column in result.description or []]), result.fetchall())

        return self._run(sql, fetch)

    def arrow(self, sql: str, parameters: Parameters = None) -> pa.Table:
        """Run one query; its whole answer as an Arrow table. Raises StoreError: as `query` does."""

        def fetch(statement: duckdb.Statement) -> pa.Table:
            table = self._con.sql(statement, params=parameters).to_arrow_table()
            return table.rename_columns(numbered(table.column_names))

        return self._run(sql, fetch)

    def _open(self) -> None:
        self._con = connect(self._root)
        self._files: dict[str, list[Path]] = {}

    def _run(self, sql: str, fetch: Callable[[duckdb.Statement], T]) -> T:
        with _as_store_errors():
            for _ in range(TRIES):
                statement, names = one_select(self._con, sql)
                needed = {view for name in names for view in _behind().get(name, ())}
                try:
                    for view in READ:
                        if view.files.name in needed and view.files.name not in self._files:
                            self._look_at(view)
                    return fetch(statement)
                except FileNotFoundError:
                    pass
                except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException):
                    raise
                except (duckdb.Error, *UNREADABLE) as exc:
                    paths = [path for view in needed for path in self._files.get(view, ())]
                    if all(path.exists() for path in paths):
                        if damaged := first_damaged(paths):
                            raise damaged from exc
                        raise
                # A file went away: it has been folded meanwhile. Looked at anew.
                self._con.close()
                self._open()
            raise StoreError(f"the files of {self._root} go away faster than they can be read; ask again")

    def _look_at(self, view: View) -> None:
        """Put the rows of a view's files behind it."""
        every = view.files.name
        rows = f"SELECT * FROM files_{every}"
        if view.name == "responses":
            # Before the exported files are listed: one that is exported meanwhile is then seen twice, and not missed.
            self._con.register("unexported_responses", ResponseStore(self._root / "responses").unexported())
            rows += f" UNION ALL BY NAME SELECT *, '{LEDGER}' AS origin FROM unexported_responses"
        paths = live_files(self._root, view)
        self._con.register(f"files_{every}", rows_of(view.files, paths))
        self._con.execute(f"CREATE OR REPLACE VIEW {every} AS {rows}")
        self._files[every] = paths


def numbered(names: Sequence[str]) -> list[str]:
    """The names of columns, each once: of equal ones the second becomes name_1, and so on."""
    taken, told = set(names), []
    for i, name in enumerate(names):
        if name in names[:i]:
            name = next(other for k in count(1) if (other := f"{name}_{k}") not in taken)
            taken.add(name)
        told.append(name)
    return told


@contextmanager
def _as_store_errors() -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, *UNREADABLE) as exc:
        raise StoreError(f"{exc}\nThe store has these views: {', '.join(sorted(COMMENTS))}.") from exc
