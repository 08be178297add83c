"""Every LLM request and its answer.

    responses/live/<day>-<unique>.sqlite     one for each running process, folded when it has ended
    responses/<day>-<unique>.parquet         folded; the same name, so that folding twice makes one file
    responses/claims                         who is asking for what

Reading looks at live files first and at Parquet second: folding writes the Parquet file before it removes the live
one, so in this order an answer is seen once or twice, never not at all. Twice does no harm: the key decides.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fute.errors import StoreError
from fute.llm.types import Answer, ChatRequest
from storage.claims import Claims, claims_at
from storage.files import Scratch, read_parquet, write_parquet
from storage.live_responses import (
    ANSWER_COLUMNS,
    COLUMNS,
    SUFFIX,
    LiveFile,
    answer_from_row,
    files_in,
    remove,
    try_lock,
)

logger = logging.getLogger(__name__)

RESPONSES = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("service", pa.string()),
        pa.field("base_url", pa.string()),
        pa.field("model", pa.string()),
        pa.field("resolved_model", pa.string()),
        pa.field("messages", pa.string()),  # JSON [{role, content}]
        pa.field("params", pa.string()),  # JSON
        pa.field("answer", pa.string()),
        pa.field("logprobs", pa.string()),  # JSON [[token, logprob, [[token, logprob], ...]], ...], or null
        pa.field("tokens_in", pa.int64()),
        pa.field("tokens_out", pa.int64()),
        pa.field("latency_ms", pa.float64()),
        pa.field("finish_reason", pa.string()),
        pa.field("created_at", pa.timestamp("us", tz="UTC")),
    ]
)


class ResponseStore:
    """The answers of one store. Safe between threads; open one for each process. Creates nothing before the first put.

    It is a ResponseLedger: `get`, `put`, `claim` and `release` are what the client's cache layer calls.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._live_folder = self.folder / "live"
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._own: LiveFile | None = None
        self._others: dict[Path, LiveFile] = {}
        self._folded = _Folded()
        self._claims_here: Claims | None = None

    def __enter__(self) -> ResponseStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------- the ledger

    def get(self, key: str) -> Answer | None:
        with self._lock:
            self._notice_fork()
            found = self._look(key)
            # What other processes have begun or folded since the last look. Only before a miss, which costs a call.
            if found is None and self._look_around():
                found = self._look(key)
            return found

    def put(self, request: ChatRequest, answer: Answer) -> None:
        """Keep an answer. On return it survives the death of this process."""
        with self._lock:
            self._notice_fork()
            self._writer().put(request, answer)

    def claim(self, key: str) -> bool:
        return self._claims().claim(key)

    def release(self, key: str) -> None:
        self._claims().release(key)

    # ------------------------------------------------------------------------------------------------ the whole of it

    def arrow_table(self) -> pa.Table:
        """All answers, each key once; an empty table of the right columns where there are none."""
        live = []
        for path in files_in(self._live_folder, SUFFIX):
            if (file := _open(path)) is not None:
                live.append(_table(file.rows()))
                file.close()
        folded = [
            read_parquet(path).select(RESPONSES.names).cast(RESPONSES) for path in files_in(self.folder, ".parquet")
        ]
        table = pa.concat_tables([RESPONSES.empty_table(), *folded, *live])
        _, first = np.unique(np.asarray(table["key"].to_pylist(), dtype=str), return_index=True)
        keep = np.zeros(len(table), bool)
        keep[first] = True
        # A filter and not a take: taking joins all chunks of a column, and texts may then pass 2 GB.
        return table.filter(pa.array(keep))

    def fold(self) -> int:
        """Move the live files of ended processes, and this store's own, into Parquet; return how many were moved.

        May be killed at any step and run by several processes at once.
        """
        with self._lock:
            self._close_files()
        folded = 0
        for path in files_in(self._live_folder, SUFFIX):
            lock = try_lock(path)
            if lock is None:  # its process is running
                continue
            with lock:
                folded += self._fold_one(path)
        return folded

    def close(self) -> None:
        """Let go of all files. The store can still be used: the next put opens a new live file."""
        with self._lock:
            self._close_files()

    # --------------------------------------------------------------------------------------------------------- inside

    def _look(self, key: str) -> Answer | None:
        if (found := self._folded.get(key)) is not None:
            return found
        for file in (self._own, *self._others.values()):
            if file is not None and (found := file.get(key)) is not None:
                return found
        return None

    def _look_around(self) -> bool:
        """Open live files and load Parquet files that are new; whether there were any."""
        changed = False
        live = set(files_in(self._live_folder, SUFFIX))
        for path in self._others.keys() - live:
            self._others.pop(path).close()
        for path in live - self._others.keys():
            if (self._own is None or path != self._own.path) and (file := _open(path)) is not None:
                self._others[path] = file
                changed = True
        for path in files_in(self.folder, ".parquet"):
            changed |= self._folded.load(path)
        return changed

    def _claims(self) -> Claims:
        with self._lock:
            self._notice_fork()
            if self._claims_here is None:
                self._claims_here = claims_at(self.folder / "claims")
            return self._claims_here

    def _notice_fork(self) -> None:
        # Database handles and claims must not be used on both sides of a fork. The parent's are left to the parent.
        if self._pid != os.getpid():
            self._pid, self._own, self._others, self._claims_here = os.getpid(), None, {}, None

    def _writer(self) -> LiveFile:
        if self._own is None:
            self._own = LiveFile.create(self._live_folder)
        return self._own

    def _close_files(self) -> None:
        for file in (self._own, *self._others.values()):
            if file is not None:
                file.close()
        self._own, self._others = None, {}

    def _fold_one(self, path: Path) -> int:
        try:
            file = _open(path)
            if file is None:  # folded by another process in the meantime
                remove(path)
                return 0
            rows = file.rows()
            file.close()
        except StoreError as exc:
            # Left where it is: the others must not suffer from it, and every reading names it.
            logger.warning("not folded: %s", exc)
            return 0
        if rows:
            write_parquet(Scratch(self.folder), self.folder / f"{path.stem}.parquet", _table(rows))
        remove(path)
        return 1


class _Folded:
    """Folded answers in memory: the columns that make an answer, and where each key stands."""

    def __init__(self) -> None:
        self._tables: dict[Path, pa.Table] = {}
        self._places: dict[str, tuple[Path, int]] = {}

    def load(self, path: Path) -> bool:
        """Load a file, once; whether it is new."""
        if path in self._tables:
            return False
        table = read_parquet(path)
        for row, key in enumerate(table["key"].to_pylist()):
            self._places.setdefault(key, (path, row))
        self._tables[path] = table.select(ANSWER_COLUMNS)
        return True

    def get(self, key: str) -> Answer | None:
        if key not in self._places:
            return None
        path, row = self._places[key]
        return answer_from_row(*(column[row].as_py() for column in self._tables[path].columns))


def _open(path: Path) -> LiveFile | None:
    """A live file to read from; None if it was folded in the meantime."""
    try:
        return LiveFile(path)
    except sqlite3.OperationalError as exc:
        if path.exists():
            raise StoreError(f"{path} cannot be opened: {exc}") from exc
        return None


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
    return pa.table(
        {name: pa.array(values, RESPONSES.field(name).type) for name, values in zip(COLUMNS, columns, strict=True)},
        schema=RESPONSES,
    )
