"""What runs have spent of their budgets, in an SQLite file that all workers on the store share.

Reserving is one statement, so two workers cannot both take the last dollar. What a killed worker had reserved stays
taken in its run, since nobody knows whether its requests were answered; the next run has a budget of its own.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from fute.config import BudgetConfig
from fute.errors import StoreError
from fute.llm.budget import Refusal, Spending

_TABLE = "spending"
_CREATE = f"""
    CREATE TABLE IF NOT EXISTS {_TABLE} (
        account TEXT PRIMARY KEY,
        calls INTEGER NOT NULL, tokens INTEGER NOT NULL, usd REAL NOT NULL,
        held_calls INTEGER NOT NULL, held_tokens INTEGER NOT NULL, held_usd REAL NOT NULL
    )
"""
_RESERVE = f"""
    UPDATE {_TABLE} SET
        held_calls = held_calls + :calls, held_tokens = held_tokens + :tokens, held_usd = held_usd + :usd
    WHERE account = :account
        AND (:max_calls IS NULL OR calls + held_calls + :calls <= :max_calls)
        AND (:max_tokens IS NULL OR tokens + held_tokens + :tokens <= :max_tokens)
        AND (:max_usd IS NULL OR usd + held_usd + :usd <= :max_usd * (1 + 1e-9))
"""
# With no call held nothing is: what is left of sums and differences of floats goes.
_SETTLE = f"""
    UPDATE {_TABLE} SET
        calls = calls + :calls, tokens = tokens + :tokens, usd = usd + :usd,
        held_calls = held_calls - :freed_calls, held_tokens = held_tokens - :freed_tokens,
        held_usd = CASE WHEN held_calls <= :freed_calls THEN 0.0 ELSE held_usd - :freed_usd END
    WHERE account = :account
"""
_LOOK = f"SELECT calls, tokens, usd, held_calls, held_tokens, held_usd FROM {_TABLE} WHERE account = ?"


class StoredAccount:
    """One budget of one run. Safe between threads, and between processes on one machine.

    Args:
        run: whose budget it is; every run has its own.
        name: what it is called in messages: the run, or an endpoint.
    """

    def __init__(self, folder: Path, run: str, name: str, limits: BudgetConfig) -> None:
        self.name = name
        self.limits = limits
        self.in_flight = 0
        self._path = folder / "budgets.sqlite"
        self._values = {"account": f"{run}/{name}", **limits.model_dump()}
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._pid = os.getpid()
        # A handle of before a fork is kept, for closing it would drop the parent's locks.
        self._left_to_parent: sqlite3.Connection | None = None

    def reserve(self, most: Spending) -> Refusal | None:
        with self._mine(), self._errors():
            db = self._open()
            if db.execute(_RESERVE, {**self._values, **asdict(most)}).rowcount != 1:
                return Refusal(self.in_flight, *self._look())
            self.in_flight += 1
            return None

    def settle(self, reserved: Spending, spent: Spending) -> None:
        freed = {f"freed_{name}": value for name, value in asdict(reserved).items()}
        with self._mine(), self._errors():
            self.in_flight -= 1  # first: whatever becomes of the file, nobody has to wait for this one any more
            self._open().execute(_SETTLE, {**self._values, **asdict(spent), **freed})

    def spent(self) -> Spending:
        with self._mine(), self._errors():
            return self._look()[0]

    def taken(self) -> Spending:
        with self._mine(), self._errors():
            spent, held = self._look()
            return spent + held

    def _look(self) -> tuple[Spending, Spending]:
        """What is spent and what is held, of all processes."""
        row = self._open().execute(_LOOK, (self._values["account"],)).fetchone()
        return Spending(*row[:3]), Spending(*row[3:])

    @contextmanager
    def _mine(self) -> Iterator[None]:
        """One thread at a time. A forked child begins anew: what is in flight is its parent's, the database handle must
        not be used on both sides, and the thread that may have held the lock is not there."""
        if self._pid != os.getpid():
            self._lock, self.in_flight = threading.Lock(), 0
            self._left_to_parent, self._db, self._pid = self._db, None, os.getpid()
        with self._lock:
            yield

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise StoreError(
                f"{self._path}: the budget of {self.name} cannot be read or written ({exc}); look at the disk's space "
                "and the file's owner, and run again"
            ) from exc

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._path, timeout=30.0, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(_CREATE)
            db.execute(f"INSERT OR IGNORE INTO {_TABLE} VALUES (?, 0, 0, 0, 0, 0, 0)", (self._values["account"],))
            self._db = db
        return self._db
