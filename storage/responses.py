"""The ledger: every LLM request and its answer, kept the moment the answer arrives.

    responses/answers.sqlite    the ledger, one file for all processes of a machine; it stays on the machine
    responses/<name>.parquet    what was exported when a run ended, for SQL, buckets and other machines
    responses/claims            who is asking for what (storage/claims.py)

An answer is one committed transaction. In WAL mode with synchronous=NORMAL a commit is with the operating system before
`put` returns, so it survives the death of the process at any moment; only a power cut can take the last ones. FULL
would guard against that too, with a disk flush for each answer: fewer than 200 answers a second where it was measured.

Parquet files that another machine or an earlier version wrote, and the SQLite files that earlier versions had for each
process (responses/live/), are loaded into the ledger once. Lost, it is made anew from Parquet, but for what was not
exported.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from fute.errors import StoreError
from fute.fingerprint import fingerprint_texts
from fute.llm.types import Answer, ChatRequest
from storage.answer_rows import (
    ANSWER_COLUMNS,
    BATCH,
    COLUMNS,
    answer_of,
    connect,
    damaged,
    may_write,
    row_of,
    rows_in,
    table_of,
    unexported_in,
)
from storage.claims import Claims, claims_at
from storage.files import Scratch, write_parquet
from storage.stamp import Stamp

if TYPE_CHECKING:
    from fute.config import EndpointConfig

logger = logging.getLogger(__name__)

LEDGER = "answers.sqlite"
NOBODY = Stamp()

_CREATE = (
    f"CREATE TABLE IF NOT EXISTS responses (key TEXT PRIMARY KEY, {', '.join(COLUMNS[1:])}, exported)",
    "CREATE INDEX IF NOT EXISTS unexported ON responses (created_at, key) WHERE exported IS NULL",
    "CREATE TABLE IF NOT EXISTS loaded (file TEXT PRIMARY KEY)",
)
_PLACES = ", ".join("?" * len(COLUMNS))
_PUT = f"INSERT OR IGNORE INTO responses VALUES ({_PLACES}, NULL)"
# Of two answers to one request, paid for by two machines, the one that is here stays, and is exported too.
_LOAD = f"""
    INSERT INTO responses VALUES ({_PLACES}, ?) ON CONFLICT (key) DO UPDATE SET exported = true
    WHERE excluded.exported AND created_at = excluded.created_at
"""
_GET = f"SELECT {', '.join(ANSWER_COLUMNS)} FROM responses WHERE key = ?"
_UNEXPORTED = (
    f"SELECT {', '.join(COLUMNS)} FROM responses WHERE exported IS NULL ORDER BY created_at, key LIMIT {BATCH}"
)

OPENING_S = 30.0  # SQLite itself does not wait while another process turns a new file into one in WAL mode
TICK_NS = 100_000_000
"""A folder's time of change may be this coarse: what changes so soon after a look is looked at again."""

_lock = threading.RLock()
"""Held by whoever uses an SQLite handle, and by a fork, which finds all of them closed: neither a handle nor SQLite's
own knowledge of its locks may be on both sides of one."""

_stores: weakref.WeakSet[ResponseStore] = weakref.WeakSet()


class ResponseStore:
    """The ledger of one store. Safe between threads, processes and forks. Makes no file before the first answer.

    It is a ResponseLedger: `get`, `put`, `claim` and `release` are what the client's cache layer calls.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / LEDGER
        self.n_kept = 0  # by this object
        self._db: sqlite3.Connection | None = None
        self._in_memory = False
        self._looked_ns = 0  # when files to load were looked for
        self._claims_here: Claims | None = None
        with _lock:  # not while a fork goes through them
            _stores.add(self)

    def __enter__(self) -> ResponseStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, key: str) -> Answer | None:
        """The answer under a key, also one that another process has kept just now.

        Raises:
            StoreError: the ledger, or a file that is to be loaded, is damaged or cannot be read.
        """
        with self._using("cannot be read"):
            if self._db is None and not self._files():
                return None
            self._load_new()
            rows = self._open().execute(_GET, (key,)).fetchall()
        return answer_of(*rows[0]) if rows else None

    def put(self, request: ChatRequest, answer: Answer, cost_usd: float | None = None, payer: Stamp = NOBODY) -> None:
        """Keep an answer; on return it survives the death of this process. A key that is there stays as it is.

        Args:
            cost_usd: None where the endpoint's price or its tokens are not known.
            payer: the run that asked.

        Raises:
            StoreError: it could not be written, or cannot be: half a character, a number past 64 bits.
        """
        row = row_of(request, answer, cost_usd, payer)  # outside: other threads need not wait for it
        with self._using("an answer could not be kept"):
            db = self._open()
            if self._in_memory:
                raise PermissionError("no write permission")
            try:
                db.execute(_PUT, row)
            except (ArithmeticError, TypeError, ValueError, sqlite3.DataError) as exc:
                raise StoreError(
                    f"{self.path}: an answer cannot be kept as it is ({type(exc).__name__}: {exc})"
                ) from exc
            self.n_kept += 1

    def claim(self, key: str) -> bool:
        """Whether this thread may ask. Raises StoreError: its answer could not be kept."""
        return self._claims().claim(key)

    def release(self, key: str) -> None:
        self._claims().release(key)

    def unexported(self) -> pa.Table:
        """The answers that may not be in Parquet yet, for SQL. Loads nothing: looking changes no store."""
        with _lock:  # those of earlier versions are in the ledger, once there is one
            paths = [self.path] if self.path.exists() else self._live_files()
            return table_of([row for path in paths for row in unexported_in(path)])

    def export(self) -> int:
        """Write the answers that are not in Parquet yet to files; return how many.

        May be killed at any step, and run by several processes at once. An answer counts as exported once its file was
        read back; the file's name is made of what is in it, so that exporting twice makes one file.
        """
        scratch, n = Scratch(self.folder), 0
        scratch.sweep()  # of exports that were killed
        with self._using("cannot be exported"):
            if not self.path.exists() and not self._live_files():
                return 0
            try:
                self._load_new()
            except StoreError as exc:  # the other answers must not suffer from it, and every reading names it
                logger.warning("%s", exc)
            rows = self._open().execute(_UNEXPORTED).fetchall()
        while rows:
            n += len(rows)
            named = fingerprint_texts([[row[0] for row in rows], [str(row[-1]) for row in rows]])
            day = datetime.fromtimestamp(rows[0][-1] // 10**6, UTC)
            path = self.folder / f"{day:%Y%m%d}-{named}.parquet"
            write_parquet(scratch, path, table_of(rows))
            with self._using("cannot be exported"):
                self._load(path)
                rows = self._open().execute(_UNEXPORTED).fetchall()
        self.close()
        return n

    def close(self) -> None:
        """Let go of the file. The store can still be used."""
        with _lock:
            if self._db is not None:
                self._db.close()
            self._db, self._looked_ns = None, 0

    # --------------------------------------------------------------------------------------------------------- inside

    @contextmanager
    def _using(self, what: str) -> Iterator[None]:
        """One thread at a time. Raises StoreError: what failed, and what to do."""
        with _lock:
            try:
                yield
            except (sqlite3.OperationalError, OSError) as exc:
                raise StoreError(
                    f"{self.path}: {what} ({exc}); look at the disk's space, your permissions and whether the file "
                    "system can lock files, and run again: what is kept stays"
                ) from exc
            except sqlite3.DatabaseError as exc:
                self.close()  # so that the next use finds what was put in its place
                raise damaged(self.path, exc) from exc

    def _open(self) -> sqlite3.Connection:
        """The ledger, made if need be. Without write permission a copy in memory of all that is there."""
        if self._db is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._in_memory = not may_write(self.path)
            db = connect(None if self._in_memory else self.path, "rwc")
            try:
                _prepare(db, self.path)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _load_new(self) -> None:
        """Load files that came since the last look. Raises StoreError: one is damaged; the others are loaded."""
        looked_ns = time.time_ns()
        if self._looked_ns > os.stat(self.folder).st_mtime_ns:
            return
        db = self._open()
        known = {name for (name,) in db.execute("SELECT file FROM loaded")}
        if not self._in_memory:
            known.add(LEDGER)
        faults = []
        for path in self._files():
            if self._name(path) in known:
                continue
            try:
                self._load(path)
            except StoreError as exc:
                faults.append(exc)
            except FileNotFoundError:  # dropped by a pull
                pass
        if faults:
            raise faults[0]
        self._looked_ns = looked_ns - TICK_NS

    def _files(self) -> list[Path]:
        """Every file with answers."""
        return [*self.folder.glob(LEDGER), *self._live_files(), *sorted(self.folder.glob("*.parquet"))]

    def _load(self, path: Path) -> None:
        db = self._open()
        exported = path.suffix == ".parquet" or None
        for rows in rows_in(path):
            db.execute("BEGIN IMMEDIATE")
            with db:
                db.executemany(_LOAD, [(*row, exported) for row in rows])
        if path != self.path:  # of which more may come
            db.execute("INSERT OR IGNORE INTO loaded VALUES (?)", (self._name(path),))

    def _live_files(self) -> list[Path]:
        """SQLite files of earlier versions, one for each process."""
        return sorted(self.folder.glob("live/*.sqlite"))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _claims(self) -> Claims:
        if self._claims_here is None:
            if self.path.exists() and not may_write(self.path):  # now, and not when an answer is paid for
                raise StoreError(f"{self.path}: no write permission, so no answer could be kept; nothing is asked")
            self._claims_here = claims_at(self.folder / "claims")
        return self._claims_here


class RunLedger:
    """The ledger of one run at one endpoint: what it pays for is kept with what it cost, and whose run it was."""

    def __init__(self, responses: ResponseStore, endpoint: EndpointConfig, stamp: Stamp) -> None:
        self._responses = responses
        self._endpoint = endpoint
        self._stamp = stamp

    def get(self, key: str) -> Answer | None:
        return self._responses.get(key)

    def put(self, request: ChatRequest, answer: Answer) -> None:
        from fute.llm.budget import cost_usd  # and with it all settings, which looking at a store does without

        cost = cost_usd(self._endpoint, answer.tokens_in, answer.tokens_out)
        self._responses.put(request, answer, cost, self._stamp)

    def claim(self, key: str) -> bool:
        return self._responses.claim(key)

    def release(self, key: str) -> None:
        self._responses.release(key)


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    give_up = time.monotonic() + OPENING_S
    while True:
        try:
            ((mode,),) = db.execute("PRAGMA journal_mode = WAL").fetchall()
            break
        except sqlite3.OperationalError as exc:
            if "locked" not in str(exc) or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
    if mode not in ("wal", "memory"):
        raise StoreError(
            f"{path}: SQLite has no write-ahead log on this file system (its mode is {mode}); put the store on a local "
            "disk, or on object storage, whose mirror is on one"
        )
    db.execute("PRAGMA synchronous = NORMAL")
    for statement in _CREATE:
        db.execute(statement)


def _before_fork() -> None:
    _lock.acquire()
    for store in list(_stores):
        with suppress(sqlite3.Error):
            store.close()


def _in_child() -> None:
    for store in list(_stores):
        store._claims_here = None  # the parent's: a child has none of its parent's locks
    _lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_lock.release, after_in_child=_in_child)
