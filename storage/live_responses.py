"""Answers of one running process: an SQLite file that only its process writes and everyone may read.

Every answer is one committed transaction. In WAL mode with synchronous=NORMAL a commit is handed to the operating
system before `put` returns, so it survives the death of the process at any moment; only a power cut can take the last
ones. FULL would guard against that too, with a disk flush for each answer: 5 ms instead of 0.1 ms where it was
measured, one answer after the other, so fewer than 200 answers a second for all threads together.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from fute.errors import StoreError
from fute.llm.types import Answer, ChatRequest, TokenLogprobs

COLUMNS = (
    "key", "service", "base_url", "model", "resolved_model", "messages", "params", "answer", "logprobs",
    "tokens_in", "tokens_out", "cost_usd", "latency_ms", "finish_reason", "run_id", "flow_run_id", "created_at",
)  # fmt: skip
ANSWER_COLUMNS = (
    "answer", "logprobs", "tokens_in", "tokens_out", "latency_ms", "resolved_model", "finish_reason",
)  # fmt: skip
SUFFIX = ".sqlite"

_CREATE = """
    CREATE TABLE IF NOT EXISTS responses (
        key TEXT PRIMARY KEY, service TEXT NOT NULL, base_url TEXT NOT NULL, model TEXT NOT NULL, resolved_model TEXT,
        messages TEXT NOT NULL, params TEXT NOT NULL, answer TEXT NOT NULL, logprobs TEXT, tokens_in INTEGER,
        tokens_out INTEGER, cost_usd REAL, latency_ms REAL NOT NULL, finish_reason TEXT, run_id TEXT, flow_run_id TEXT,
        created_at INTEGER NOT NULL
    )
"""
_INSERT = f"INSERT OR IGNORE INTO responses VALUES ({', '.join('?' * len(COLUMNS))})"
_GET = f"SELECT {', '.join(ANSWER_COLUMNS)} FROM responses WHERE key = ?"
_ALL = "SELECT {columns} FROM responses ORDER BY created_at, key"
_HAS = "SELECT name FROM pragma_table_info('responses')"


class Bill(NamedTuple):
    """What the ledger says of an answer beside the answer: what it cost, and whose run asked.

    Attributes:
        cost_usd: None where the endpoint's price or its tokens are not known.
        run_id: MLflow run.
        flow_run_id: Prefect flow run.
    """

    cost_usd: float | None = None
    run_id: str | None = None
    flow_run_id: str | None = None


NO_BILL = Bill()


class LiveFile:
    """One file. Not safe between threads by itself: the response store holds a lock around it."""

    def __init__(self, path: Path, *, lock: Any = None) -> None:
        self.path = path
        self._lock_file = lock
        # rw even for readers: the file of a killed process has a log that must be worked in before it can be read.
        # Never created here, or reading would leave an empty file where another process has just folded one.
        self._db = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={'rw' if lock is None else 'rwc'}",
            uri=True,
            timeout=30.0,
            isolation_level=None,
            check_same_thread=False,
        )

    @classmethod
    def create(cls, folder: Path) -> LiveFile:
        """A new file with a name of its own, held by a lock that lasts as long as its process."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{datetime.now(UTC):%Y%m%d}-{uuid.uuid4().hex}{SUFFIX}"
        lock = try_lock(path)  # first: a file without a lock looks as if its process had ended
        file = cls(path, lock=lock)
        file._db.execute("PRAGMA journal_mode = WAL")
        file._db.execute("PRAGMA synchronous = NORMAL")
        file._db.execute(_CREATE)
        return file

    def put(self, row: tuple[Any, ...]) -> None:
        """Keep an answer (row_of); committed on return. A key that is there already stays as it is.

        Raises:
            StoreError: it could not be written, or cannot be: half a character, a number past 64 bits.
        """
        try:
            self._db.execute(_INSERT, row)
        except sqlite3.Error as exc:
            raise StoreError(
                f"{self.path}: an answer could not be kept ({exc}); free disk space and run again"
            ) from exc
        except (ArithmeticError, TypeError, ValueError) as exc:
            raise StoreError(f"{self.path}: an answer cannot be kept as it is ({type(exc).__name__}: {exc})") from exc

    def get(self, key: str) -> Answer | None:
        rows = self._read(_GET, (key,))
        return answer_from_row(*rows[0]) if rows else None

    def rows(self) -> list[tuple[Any, ...]]:
        """All answers, oldest first, as COLUMNS; created_at in microseconds since 1970."""
        # An earlier fute left it with fewer columns, where its process was killed before it was folded.
        known = {name for (name,) in self._read(_HAS, ())}
        columns = ", ".join(name if name in known else f"NULL AS {name}" for name in COLUMNS)
        return self._read(_ALL.format(columns=columns), ()) if known else []

    def close(self) -> None:
        self._db.close()
        if self._lock_file is not None:
            self._lock_file.close()

    def close_lock(self) -> None:
        """In a forked child: the lock is the parent's, and lasts until its last descriptor is closed."""
        if self._lock_file is not None:
            self._lock_file.close()

    def _read(self, query: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.OperationalError as exc:
            # Its process was killed, or is, between creating the file and the table in it.
            if "no such table" in str(exc):
                return []
            raise StoreError(f"{self.path} cannot be read: {exc}") from exc
        except sqlite3.DatabaseError as exc:
            raise StoreError(f"{self.path} is damaged ({exc}); move it away, its answers will be asked again") from exc


def row_of(request: ChatRequest, answer: Answer, bill: Bill) -> tuple[Any, ...]:
    """An answer as COLUMNS."""
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
        bill.cost_usd,
        answer.latency_ms,
        answer.finish_reason,
        bill.run_id,
        bill.flow_run_id,
        time.time_ns() // 1000,
    )


def files_in(folder: Path, suffix: str) -> list[Path]:
    """The files with this ending, by name; none where there is no folder. Not a glob: this runs before every call."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names) if name.endswith(suffix)]


def try_lock(path: Path) -> Any | None:
    """The lock that says that a live file's process is running, as an open file; None if someone holds it.

    It is a file beside it, since SQLite locks the database itself and loses those locks if it is opened elsewhere.
    """
    file = path.with_suffix(".lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def remove(path: Path) -> None:
    """Delete a live file and what belongs to it; the lock last."""
    for suffix in (SUFFIX, f"{SUFFIX}-wal", f"{SUFFIX}-shm", ".lock"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def answer_from_row(
    text: str,
    logprobs: str | None,
    tokens_in: int | None,
    tokens_out: int | None,
    latency_ms: float,
    resolved_model: str | None,
    finish_reason: str | None,
) -> Answer:
    """An answer from its columns (ANSWER_COLUMNS)."""
    positions = None
    if logprobs is not None:
        positions = tuple(
            TokenLogprobs(token, logprob, tuple((word, value) for word, value in top))
            for token, logprob, top in json.loads(logprobs)
        )
    return Answer(text, positions, tokens_in, tokens_out, latency_ms, resolved_model, finish_reason)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
