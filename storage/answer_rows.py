"""An answer of an LLM as a row of the ledger: written, read back, and read from the files that hold such rows."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from fute.errors import StoreError
from fute.llm.types import Answer, ChatRequest, TokenLogprobs
from storage.schemas import RESPONSES
from storage.seal import opened
from storage.stamp import Stamp

Row = tuple[Any, ...]
"""COLUMNS; created_at in microseconds since 1970."""

COLUMNS = tuple(RESPONSES.names)
ANSWER_COLUMNS = ("answer", "logprobs", "tokens_in", "tokens_out", "latency_ms", "resolved_model", "finish_reason")
"""As the fields of Answer."""
BATCH = 10_000  # answers in memory at a time


def row_of(request: ChatRequest, answer: Answer, cost_usd: float | None, payer: Stamp) -> Row:
    return (
        request.key,
        request.service,
        request.base_url,
        request.model,
        answer.resolved_model,
        _json([message._asdict() for message in request.messages]),
        _json(request.params),
        answer.text,
        None if answer.logprobs is None else _json(answer.logprobs),
        answer.tokens_in,
        answer.tokens_out,
        cost_usd,
        answer.latency_ms,
        answer.finish_reason,
        payer.run_id,
        payer.flow_run_id,
        time.time_ns() // 1000,
    )


def answer_of(text: str, logprobs: str | None, *others: Any) -> Answer:
    """An answer from its columns (ANSWER_COLUMNS)."""
    positions = None
    if logprobs is not None:
        positions = tuple(
            TokenLogprobs(token, logprob, tuple((word, value) for word, value in top))
            for token, logprob, top in json.loads(logprobs)
        )
    return Answer(text, positions, *others)


def table_of(rows: Sequence[Row]) -> pa.Table:
    columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
    return pa.table(
        {name: pa.array(values, RESPONSES.field(name).type) for name, values in zip(COLUMNS, columns, strict=True)},
        schema=RESPONSES,
    )


def rows_in(path: Path) -> Iterator[list[Row]]:
    """The answers in a Parquet file, some at a time; of an SQLite file those that are not in Parquet, all at once.

    A file of an earlier version may lack columns; they are null.

    Raises:
        StoreError: the file is damaged, or cannot be read.
        FileNotFoundError: it is gone.
    """
    if path.suffix != ".parquet":
        yield unexported_in(path)
        return
    with opened(path) as file:
        for batch in file.iter_batches(BATCH):
            table = pa.concat_tables([RESPONSES.empty_table(), pa.table(batch)], promote_options="permissive")
            times = table["created_at"].cast(RESPONSES.field("created_at").type).cast(pa.int64())
            table = table.select(COLUMNS[:-1]).append_column("created_at", times)
            yield [*zip(*(column.to_pylist() for column in table.columns), strict=True)]


def unexported_in(path: Path) -> list[Row]:
    """The answers in an SQLite file that are not in Parquet, oldest first: of one of an earlier version, all.

    Raises:
        StoreError: as above.
    """
    if not path.exists():
        return []
    # Without write permission, a file in WAL mode that has no log can only be opened as one that nobody changes.
    log = path.with_name(f"{path.name}-wal")
    mode = "rw" if may_write(path) else "ro" if log.exists() else "ro&immutable=1"
    try:
        with closing(connect(path, mode)) as db:
            known = {name for (name,) in db.execute("SELECT name FROM pragma_table_info('responses')")}
            columns = ", ".join(name if name in known else f"NULL AS {name}" for name in COLUMNS)
            where = "WHERE exported IS NULL" if "exported" in known else ""
            query = f"SELECT {columns} FROM responses {where} ORDER BY created_at, key"
            # Without the table, its process was killed before it made one, or is about to.
            return db.execute(query).fetchall() if known else []
    except sqlite3.OperationalError as exc:
        raise StoreError(f"{path} cannot be read: {exc}") from exc
    except sqlite3.DatabaseError as exc:
        raise damaged(path, exc) from exc


def connect(path: Path | None, mode: str) -> sqlite3.Connection:
    """An SQLite handle for any thread; None: of a database in memory."""
    place = ":memory:" if path is None else f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(place, uri=True, timeout=30.0, isolation_level=None, check_same_thread=False)


def may_write(path: Path) -> bool:
    """Whether this process may write an SQLite file, there or not, and what SQLite puts beside it."""
    return os.access(path.parent, os.W_OK) and (os.access(path, os.W_OK) or not path.exists())


def damaged(path: Path, exc: Exception) -> StoreError:
    return StoreError(
        f"{path} is damaged ({exc}); put back a copy of it, or move it out of the store: what it holds and no Parquet "
        "file beside it does will be asked and paid for again"
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
