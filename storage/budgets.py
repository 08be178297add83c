"""What runs have spent of their budgets, in an SQLite file that all workers on the store share.

Reserving is one statement, so two workers cannot both take the last dollar. What a killed worker had reserved stays
taken in its run, since nobody knows whether its requests were answered; the next run has a budget of its own.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

from fute.config import BudgetConfig
from fute.llm.budget import Spending

_CREATE = """
    CREATE TABLE IF NOT EXISTS accounts (
        account TEXT PRIMARY KEY, calls INTEGER NOT NULL, tokens INTEGER NOT NULL, usd REAL NOT NULL
    )
"""
_RESERVE = """
    UPDATE accounts SET calls = calls + :calls, tokens = tokens + :tokens, usd = usd + :usd
    WHERE account = :account
        AND (:max_calls IS NULL OR calls + :calls <= :max_calls)
        AND (:max_tokens IS NULL OR tokens + :tokens <= :max_tokens)
        AND (:max_usd IS NULL OR usd + :usd <= :max_usd * (1 + 1e-9))
"""
_SETTLE = """
    UPDATE accounts SET calls = calls + :calls, tokens = tokens + :tokens, usd = usd + :usd WHERE account = :account
"""


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
        self._db: sqlite3.Connection | None = None
        self._pid = 0

    def reserve(self, most: Spending) -> bool:
        with self._lock:
            values = {**self._values(most), **self.limits.model_dump()}
            if self._open().execute(_RESERVE, values).rowcount != 1:
                return False
            self.in_flight += 1
            return True

    def settle(self, reserved: Spending, spent: Spending) -> None:
        with self._lock:
            self._open().execute(_SETTLE, self._values(spent - reserved))
            self.in_flight -= 1

    def taken(self) -> Spending:
        with self._lock:
            query = "SELECT calls, tokens, usd FROM accounts WHERE account = ?"
            return Spending(*self._open().execute(query, (self._account,)).fetchone())

    def _values(self, spending: Spending) -> dict[str, object]:
        return {"account": self._account, "calls": spending.calls, "tokens": spending.tokens, "usd": spending.usd}

    def _open(self) -> sqlite3.Connection:
        # A database handle must not be used on both sides of a fork.
        if self._db is None or self._pid != os.getpid():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, timeout=30.0, isolation_level=None, check_same_thread=False)
            self._pid = os.getpid()
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(_CREATE)
            self._db.execute("INSERT OR IGNORE INTO accounts VALUES (?, 0, 0, 0)", (self._account,))
        return self._db
