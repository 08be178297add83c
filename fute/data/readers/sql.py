"""What a query answers from a database: one file, or a server that SQLAlchemy can talk to."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from fute.config import SqlSource
from fute.data.columns import describe_missing
from fute.data.rows import tables_from_rows
from fute.errors import ConfigError, DataError
from fute.fingerprint import digest_file, fingerprint


def _duckdb(path: Path) -> Any:
    return import_module("duckdb").connect(str(path), read_only=True)


def _sqlite(path: Path) -> Any:
    return import_module("sqlite3").connect(f"{path.as_uri()}?mode=ro", uri=True)


DATABASES: dict[tuple[int, bytes], Callable[[Path], Any]] = {
    (8, b"DUCK"): _duckdb,
    (0, b"SQLite format 3\0"): _sqlite,
}
"""Where in a file which bytes stand -> how its DB-API driver connects, for reading only. The library itself needs
neither of them: a driver is imported when a study names such a file."""
VARIABLE = "env:"
"""Before the name of an environment variable that holds a URL."""


@dataclass(frozen=True)
class SqlReader(ABC):
    """A connection (of the DB-API) for each query, closed without a commit: what a query changes is rolled back."""

    source: SqlSource
    base_dir: Path

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the database, for messages."""

    @abstractmethod
    def connect(self) -> Any: ...

    @abstractmethod
    def identity(self) -> dict[str, Any]: ...

    def tables(self, text: Sequence[str], other: Sequence[str]) -> dict[str, pa.Table]:
        columns = list(dict.fromkeys([*text, *other]))
        tables: dict[str, pa.Table] = {}
        for split, (names, rows) in self._answers.items():
            where = f"the query of {self.name} ({split})"
            if problem := describe_missing(where, names, columns):
                raise DataError(problem)
            values = {name: [row[names.index(name)] for row in rows] for name in columns}
            tables |= {split: tables_from_rows(values, columns, where)["train"]}
        return tables

    def remarks(self, columns: Sequence[str]) -> list[str]:
        return []

    def problems(self, columns: Sequence[str]) -> list[str]:
        found = []
        for split, query in self._queries.items():
            with self._answer(f"SELECT * FROM ({query.strip().rstrip(';')}) AS q WHERE 1 = 0") as cursor:
                found.append(describe_missing(f"the query of {self.name} ({split})", _names(cursor), columns))
        return [problem for problem in found if problem]

    def split_names(self) -> list[str]:
        return list(self._queries)

    def parts(self) -> list[tuple[str, SqlSource]]:
        return [(Path(self.name).stem, self.source)]

    @property
    def _queries(self) -> dict[str, str]:
        query = self.source.query
        return {"train": query} if isinstance(query, str) else query

    @cached_property
    def _answers(self) -> dict[str, tuple[list[str], list[Any]]]:
        """Names of the columns and rows, of each split."""
        found = {}
        for split, query in self._queries.items():
            with self._answer(query) as cursor:
                found[split] = _names(cursor), cursor.fetchall()
        return found

    @contextmanager
    def _answer(self, query: str) -> Iterator[Any]:
        """A cursor that has run the query.

        Raises:
            DataError: a database that cannot be opened, or what it says.
        """
        try:
            with closing(self.connect()) as connection, closing(connection.cursor()) as cursor:
                cursor.execute(query)
                yield cursor
        except DataError:
            raise
        except Exception as exc:  # drivers have no common class of errors
            raise DataError(f"{self.name}: {exc}") from exc


class DatabaseFileReader(SqlReader):
    """A DuckDB or SQLite file; which, its first bytes say."""

    @cached_property
    def _path(self) -> Path:
        path = (self.base_dir / Path(self.source.database).expanduser()).resolve()
        if not path.is_file():
            raise ConfigError(f"there is no database {self.source.database!r} (looked for {path})")
        return path

    @property
    def name(self) -> str:
        return self._path.name

    def connect(self) -> Any:
        with self._path.open("rb") as file:
            head = file.read(64)
        connect = next((c for (at, mark), c in DATABASES.items() if head[at:].startswith(mark)), None)
        if connect is None:
            raise DataError(f"{self.name} is neither a DuckDB nor a SQLite file")
        return connect(self._path)

    def identity(self) -> dict[str, Any]:
        # What was written last may still lie in the write-ahead log: tickets.duckdb.wal, tickets.sqlite-wal.
        logs = [self._path.with_name(self._path.name + ending) for ending in (".wal", "-wal")]
        files = [self._path, *(log for log in logs if log.is_file())]
        return {"database": [digest_file(file) for file in files], "query": self._queries}


class DatabaseServerReader(SqlReader):
    """A database server, by a URL of SQLAlchemy."""

    @cached_property
    def _url(self) -> Any:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        written = self.source.database
        variable = written.removeprefix(VARIABLE)
        if variable != written and not os.environ.get(variable):
            raise ConfigError(f"database: the environment variable {variable} is not set; put the database's URL there")
        try:
            return make_url(written if variable == written else os.environ[variable])
        except ArgumentError:
            raise ConfigError(f"database: {written} is no URL of a database (postgresql://host/name)") from None

    @property
    def name(self) -> str:
        return str(self._url.database or self._url.host or self.source.database)

    def connect(self) -> Any:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        return create_engine(self._url, poolclass=NullPool).raw_connection()

    def identity(self) -> dict[str, Any]:
        # A server has no content of its own that could be compared: its answers are.
        answers = {
            split: [names, [list(map(repr, row)) for row in rows]] for split, (names, rows) in self._answers.items()
        }
        return {"answers": fingerprint(**answers), "query": self._queries}


def sql_reader(source: SqlSource, base_dir: Path) -> SqlReader:
    by_url = "://" in source.database or source.database.startswith(VARIABLE)
    return (DatabaseServerReader if by_url else DatabaseFileReader)(source, base_dir)


def _names(cursor: Any) -> list[str]:
    return [column[0] for column in cursor.description or ()]
