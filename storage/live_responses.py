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

PATIENCE_S = 2.0
"""How long who may not write waits for a file that its process is opening or closing."""

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
    """One file. Not safe between threads by itself: the response store holds a lock around it.

    Who may not write cannot read a file in WAL mode that has no log (`-wal`), for SQLite would have to make one. So it
    is opened as one that nobody changes (immutable), which is true once its process has ended: it is never written
    again. But one that was made just now has no log yet either, and SQLite does not look for changes of an immutable
    file. So this class does, before and after each reading: what was read counts only if no log has come and the file
    is as it was when it was opened; else it is opened again. And the other way round, where the log went meanwhile.
    """

    def __init__(self, path: Path, *, lock: Any = None) -> None:
        self.path = path
        self._lock_file = lock
        self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        # rw even for readers: the file of a killed process has a log that must be worked in before it can be read.
        # Never created here, or reading would leave an empty file where another process has just folded one.
        mode, self._unchanged = "rw" if self._lock_file is None else "rwc", None
        if self._is_for_reading() and not _log_of(self.path).exists():
            mode, self._unchanged = "ro&immutable=1", _state_of(self.path)
        return sqlite3.connect(
            f"{self.path.resolve().as_uri()}?mode={mode}",
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
        outdated = self._has_changed()
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                if outdated:
                    self._db.close()
                    self._db = self._connect()
                rows = self._db.execute(query, values).fetchall()
            except sqlite3.DatabaseError as exc:
                outdated = self._has_changed() or self._has_lost_its_log()
                if outdated:
                    continue
                # Its process was killed, or is, between creating the file and the table in it; or it was folded just
                # now, and its answers are found in Parquet, where everyone looks second.
                if "no such table" in str(exc) or not self.path.exists():
                    return []
                if isinstance(exc, sqlite3.OperationalError):
                    # Its process may be about to make or to remove the log and what belongs to it, one by one.
                    if self._is_for_reading() and time.monotonic() < give_up:
                        time.sleep(PATIENCE_S / 100)
                        continue
                    advice = "; let one fold it who may write there (`fute maintain`)" if self._is_for_reading() else ""
                    raise StoreError(f"{self.path} cannot be read: {exc}{advice}") from exc
                raise StoreError(
                    f"{self.path} is damaged ({exc}); move it away, its answers will be asked again"
                ) from exc
            outdated = self._has_changed()
            if not outdated:
                return rows

    def _is_for_reading(self) -> bool:
        """Whether this process may only read it."""
        return self._lock_file is None and not may_write(self.path)

    def _has_changed(self) -> bool:
        """Whether a file that was opened as one that nobody changes was written to after all."""
        if self._unchanged is None:
            return False
        return _log_of(self.path).exists() or _state_of(self.path) not in (None, self._unchanged)  # None: folded

    def _has_lost_its_log(self) -> bool:
        """Whether a file that was opened while it had a log has none, and so is to be opened as the others."""
        return (
            self._unchanged is None
            and self._is_for_reading()
            and self.path.exists()
            and not _log_of(self.path).exists()
        )


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


def may_write(path: Path) -> bool:
    """Whether this process may write a file and what SQLite puts beside it."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _state_of(path: Path) -> tuple[int, int] | None:
    """By which a change of a file is told; None of one that is not there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


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
