"""What a query answers from a database that is one file."""

from __future__ import annotations

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
from fute.fingerprint import digest_file


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


@dataclass(frozen=True)
class SqlReader:
    source: SqlSource
    base_dir: Path

    @cached_property
    def _path(self) -> Path:
        path = (self.base_dir / Path(self.source.database).expanduser()).resolve()
        if not path.is_file():
            raise ConfigError(f"there is no database {self.source.database!r} (looked for {path})")
        return path

    @property
    def _queries(self) -> dict[str, str]:
        query = self.source.query
        return {"train": query} if isinstance(query, str) else query

    def tables(self, text: Sequence[str], other: Sequence[str]) -> dict[str, pa.Table]:
        columns = list(dict.fromkeys([*text, *other]))
        tables: dict[str, pa.Table] = {}
        for split, query in self._queries.items():
            with self._answer(query) as cursor:
                names, rows = _names(cursor), cursor.fetchall()
            where = f"the query of {self._path.name} ({split})"
            if problem := describe_missing(where, names, columns):
                raise DataError(problem)
            values = {name: [row[names.index(name)] for row in rows] for name in columns}
            tables |= {split: tables_from_rows(values, columns, where)["train"]}
        return tables

    def remarks(self, columns: Sequence[str]) -> list[str]:
        return []

    def identity(self) -> dict[str, Any]:
        # What was written last may still lie in the write-ahead log: tickets.duckdb.wal, tickets.sqlite-wal.
        logs = [self._path.with_name(self._path.name + ending) for ending in (".wal", "-wal")]
        files = [self._path, *(log for log in logs if log.is_file())]
        return {"database": [digest_file(file) for file in files], "query": self._queries}

    def problems(self, columns: Sequence[str]) -> list[str]:
        found = []
        for split, query in self._queries.items():
            with self._answer(f"SELECT * FROM ({query.strip().rstrip(';')}) AS q LIMIT 0") as cursor:
                found.append(describe_missing(f"the query of {self._path.name} ({split})", _names(cursor), columns))
        return [problem for problem in found if problem]

    def split_names(self) -> list[str]:
        return list(self._queries)

    def parts(self) -> list[tuple[str, SqlSource]]:
        return [(Path(self.source.database).stem, self.source)]

    @contextmanager
    def _answer(self, query: str) -> Iterator[Any]:
        """A cursor that has run the query.

        Raises:
            DataError: a file of another kind, one that another process writes to, or what the database says.
        """
        with self._path.open("rb") as file:
            head = file.read(64)
        connect = next((c for (at, mark), c in DATABASES.items() if head[at:].startswith(mark)), None)
        if connect is None:
            raise DataError(f"{self._path.name} is neither a DuckDB nor a SQLite file")
        try:
            with closing(connect(self._path)) as connection, closing(connection.cursor()) as cursor:
                cursor.execute(query)
                yield cursor
        except DataError:
            raise
        except Exception as exc:  # drivers have no common class of errors
            raise DataError(f"{self._path.name}: {exc}") from exc


def _names(cursor: Any) -> list[str]:
    return [column[0] for column in cursor.description or ()]
