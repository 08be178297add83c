"""What runs have spent of their budgets, in an SQLite file that all workers on the store share.

Reserving is one statement, so two workers cannot both take the last dollar. What a killed worker had reserved stays
taken in its run, since nobody knows whether its requests were answered; the next run has a budget of its own.

While a worker has requests in flight it reserves for some of the next ones as well, and what it settles is written with
its next reservation: many threads would wait for a write each. So the file may say too much is taken, never too little;
a worker gives back what it holds ahead when it needs it for a larger request, or has nothing in flight any more.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fute.config import BudgetConfig
from fute.errors import StoreError
from fute.llm.budget import Refusal, Spending

AHEAD = 8  # requests that are reserved for with one write, where so much is left
_TABLE = "spending"
_CREATE = f"""
    CREATE TABLE IF NOT EXISTS {_TABLE} (
        account TEXT PRIMARY KEY,
        calls INTEGER NOT NULL, tokens INTEGER NOT NULL, usd REAL NOT NULL,
        held_calls INTEGER NOT NULL, held_tokens INTEGER NOT NULL, held_usd REAL NOT NULL
    )
"""
# Spent and held change by what was settled, and held by what is reserved now, if any. With no call held nothing is:
# what is left of sums and differences of floats goes.
_WRITE = f"""
    UPDATE {_TABLE} SET
        calls = calls + :spent_calls, tokens = tokens + :spent_tokens, usd = usd + :spent_usd,
        held_calls = held_calls + :held_calls, held_tokens = held_tokens + :held_tokens,
        held_usd = CASE WHEN held_calls + :held_calls <= 0 THEN 0.0 ELSE held_usd + :held_usd END
    WHERE account = :account
"""
_WITHIN = """
        AND (:max_calls IS NULL OR calls + held_calls + :spent_calls + :held_calls <= :max_calls)
        AND (:max_tokens IS NULL OR tokens + held_tokens + :spent_tokens + :held_tokens <= :max_tokens)
        AND (:max_usd IS NULL OR usd + held_usd + :spent_usd + :held_usd <= :max_usd * (1 + 1e-9))
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
        self._account = f"{run}/{name}"
        self._lock = threading.Lock()
        # Since the last write: spent, and freed of what was held. And held ahead, of what was written.
        self._spent = self._freed = self._ahead = Spending()
        self._db: sqlite3.Connection | None = None
        self._pid = os.getpid()
        # A handle of before a fork is kept, for closing it would drop the parent's locks.
        self._left_to_parent: sqlite3.Connection | None = None

    def reserve(self, most: Spending) -> Refusal | None:
        with self._lock, self._errors():
            self._open()  # first: in a forked child what is held ahead is the parent's
            if not self._take_from_ahead(most):
                self._give_back_ahead()
                if self._write(most.times(AHEAD), within_limits=True):
                    self._ahead = most.times(AHEAD - 1)
                elif not self._write(most, within_limits=True):
                    self._write(Spending())
                    return Refusal(self.in_flight, *self._look())
            self.in_flight += 1
            return None

    def settle(self, reserved: Spending, spent: Spending) -> None:
        with self._lock, self._errors():
            self._open()
            self.in_flight -= 1  # first: whatever becomes of the file, nobody has to wait for this one any more
            self._spent, self._freed = self._spent + spent, self._freed + reserved
            if self.in_flight <= 0:
                self._give_back_ahead()
                self._write(Spending())

    def spent(self) -> Spending:
        with self._lock, self._errors():
            return self._look()[0]

    def taken(self) -> Spending:
        with self._lock, self._errors():
            spent, held = self._look()
            return spent + held

    def _look(self) -> tuple[Spending, Spending]:
        """What is spent and what is held for requests, of all processes; of this one as it is, written or not."""
        row = self._open().execute(_LOOK, (self._account,)).fetchone()
        return Spending(*row[:3]) + self._spent, Spending(*row[3:]) - self._freed - self._ahead

    def _take_from_ahead(self, most: Spending) -> bool:
        left = self._ahead - most
        if left.calls < 0 or left.tokens < 0 or left.usd < 0:
            return False
        self._ahead = left
        return True

    def _give_back_ahead(self) -> None:
        self._freed, self._ahead = self._freed + self._ahead, Spending()

    def _write(self, reserve: Spending, *, within_limits: bool = False) -> bool:
        """Write what is to be reserved, and what was settled; whether it was."""
        held = reserve - self._freed
        values = {
            "account": self._account, **self.limits.model_dump(),
            "spent_calls": self._spent.calls, "spent_tokens": self._spent.tokens, "spent_usd": self._spent.usd,
            "held_calls": held.calls, "held_tokens": held.tokens, "held_usd": held.usd,
        }  # fmt: skip
        if self._open().execute(_WRITE + _WITHIN if within_limits else _WRITE, values).rowcount != 1:
            return False
        self._spent = self._freed = self._ahead = Spending()
        return True

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
        # A database handle must not be used on both sides of a fork, and what the parent has in flight is the parent's.
        if self._db is None or self._pid != os.getpid():
            self._left_to_parent, self._db, self._pid, self.in_flight = self._db, None, os.getpid(), 0
            self._spent = self._freed = self._ahead = Spending()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._path, timeout=30.0, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(_CREATE)
            db.execute(f"INSERT OR IGNORE INTO {_TABLE} VALUES (?, 0, 0, 0, 0, 0, 0)", (self._account,))
            self._db = db
        return self._db
