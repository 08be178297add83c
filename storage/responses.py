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
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fute.errors import StoreError
from fute.llm.types import Answer, ChatRequest
from storage.claims import Claims, claims_at
from storage.files import Scratch, read_parquet, write_parquet
from storage.folded_responses import ROW_GROUP_SIZE, FoldedAnswers
from storage.key_filter import KeyFilter
from storage.live_responses import (
    COLUMNS,
    NO_BILL,
    SUFFIX,
    Bill,
    LiveFile,
    files_in,
    remove,
    row_of,
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
        pa.field("cost_usd", pa.float64()),  # null where the endpoint's price or its tokens are not known
        pa.field("latency_ms", pa.float64()),
        pa.field("finish_reason", pa.string()),
        pa.field("run_id", pa.string()),  # whose run asked and paid
        pa.field("flow_run_id", pa.string()),
        pa.field("created_at", pa.timestamp("us", tz="UTC")),
    ]
)

ORIGIN = pa.field("origin", pa.string())


TICK_NS = 100_000_000
"""A folder's time of change may be this coarse: what changes so soon after a look is looked at again."""


class ResponseStore:
    """The answers of one store. Safe between threads; open one for each process. Creates nothing before the first put.

    It is a ResponseLedger: `get`, `put`, `claim` and `release` are what the client's cache layer calls.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.n_kept = 0  # by this object
        self._live_folder = self.folder / "live"
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._own: LiveFile | None = None
        self._others: dict[Path, LiveFile] = {}
        self._folded = FoldedAnswers()
        self._written = KeyFilter()  # what stands in this process's own file
        self._listed_ns = 0  # when the folders were looked into
        self._claims_here: Claims | None = None
        self._left_to_parent: list[object] = []
        _stores.add(self)

    def __enter__(self) -> ResponseStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------- the ledger

    def get(self, key: str) -> Answer | None:
        if self._surely_new(key):
            return None
        with self._lock:
            self._notice_fork()
            found = self._look(key)
            # What other processes have begun or folded since the last look. Only before a miss, which costs a call.
            if found is None and self._look_around():
                found = self._look(key)
            return found

    def put(self, request: ChatRequest, answer: Answer, bill: Bill = NO_BILL) -> None:
        """Keep an answer. On return it survives the death of this process."""
        row = row_of(request, answer, bill)  # outside: other threads need not wait for it
        with self._lock:
            self._notice_fork()
            self._writer().put(row)
            self._written.add(request.key)
            self.n_kept += 1

    def claim(self, key: str) -> bool:
        return self._claims().claim(key)

    def release(self, key: str) -> None:
        self._claims().release(key)

    # ------------------------------------------------------------------------------------------------ the whole of it

    def live_table(self) -> pa.Table:
        """The answers that are not folded yet, with the file that each stands in as `origin`."""
        live = [RESPONSES.append(ORIGIN).empty_table()]
        for path in files_in(self._live_folder, SUFFIX):
            if (file := _open(path)) is not None:
                table = _table(file.rows())
                file.close()
                live.append(table.append_column(ORIGIN, pa.repeat(pa.scalar(path.name), len(table))))
        return pa.concat_tables(live)

    def arrow_table(self) -> pa.Table:
        """All answers, each key once; an empty table of the right columns where there are none. All in memory."""
        live = self.live_table().drop_columns([ORIGIN.name])
        folded = [_whole(read_parquet(path)) for path in files_in(self.folder, ".parquet")]
        table = pa.concat_tables([live, *folded])
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
        scratch = Scratch(self.folder)
        scratch.sweep()  # of foldings that were killed
        folded = 0
        for path in files_in(self._live_folder, SUFFIX):
            lock = try_lock(path)
            if lock is None:  # its process is running
                continue
            with lock:
                folded += self._fold_one(path, scratch)
        return folded

    def close(self) -> None:
        """Let go of all files. The store can still be used: the next put opens a new live file."""
        with self._lock:
            self._close_files()

    # --------------------------------------------------------------------------------------------------------- inside

    def _surely_new(self, key: str) -> bool:
        """The usual case just before a call, told without the lock, which another thread holds while it writes."""
        return (
            self._pid == os.getpid()
            and not self._others
            and not self._written.may_hold(key)
            and key not in self._folded
            and self._nothing_changed()
        )

    def _nothing_changed(self) -> bool:
        # Folding removes a live file when its Parquet file is there, so one folder tells of both.
        return self._listed_ns > 0 and _changed_ns(self._live_folder) < self._listed_ns

    def _look(self, key: str) -> Answer | None:
        if (found := self._folded.get(key)) is not None:
            return found
        if self._own is not None and self._written.may_hold(key) and (found := self._own.get(key)) is not None:
            return found
        for file in self._others.values():
            if (found := file.get(key)) is not None:
                return found
        return None

    def _look_around(self) -> bool:
        """Open live files and load Parquet files that are new; whether there were any."""
        looked_ns = time.time_ns()
        if self._nothing_changed():
            return False
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
        self._listed_ns = looked_ns - TICK_NS
        return changed

    def _claims(self) -> Claims:
        claims = self._claims_here
        if claims is not None and self._pid == os.getpid():
            return claims  # the usual case, told without the lock, which another thread holds while it writes
        with self._lock:
            self._notice_fork()
            if self._claims_here is None:
                self._claims_here = claims_at(self.folder / "claims")
            return self._claims_here

    def _notice_fork(self) -> None:
        # Database handles and claims must not be used on both sides of a fork. The parent's are left to the parent:
        # kept here, for closing one in the child would drop locks and end a log that the parent still writes.
        if self._pid != os.getpid():
            self._left_to_parent += [self._own, *self._others.values(), self._claims_here]
            self._pid, self._own, self._others, self._claims_here = os.getpid(), None, {}, None
            self._written = KeyFilter()
            self._listed_ns = 0

    def _writer(self) -> LiveFile:
        if self._own is None:
            self._own = LiveFile.create(self._live_folder)
        return self._own

    def _close_files(self) -> None:
        for file in (self._own, *self._others.values()):
            if file is not None:
                file.close()
        self._own, self._others, self._listed_ns = None, {}, 0

    def _fold_one(self, path: Path, scratch: Scratch) -> int:
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
            target = self.folder / f"{path.stem}.parquet"
            write_parquet(scratch, target, _table(rows), row_group_size=ROW_GROUP_SIZE)
        remove(path)
        return 1


_stores: weakref.WeakSet[ResponseStore] = weakref.WeakSet()


def _in_child() -> None:
    """After a fork, before anything else: the lock of a live file belongs to whoever has its file open, and a child
    that outlives its parent would make the parent's file look as if its process were running."""
    for store in list(_stores):
        store._lock = threading.RLock()  # another thread of the parent may have held it, and is not here
        if store._own is not None:
            store._own.close_lock()


os.register_at_fork(after_in_child=_in_child)


def _changed_ns(folder: Path) -> int:
    """When a file in it was made or removed last; before each call this is quicker than to list them."""
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return 0


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


def _whole(table: pa.Table) -> pa.Table:
    """With nulls for the columns that a file was written before."""
    for name in set(RESPONSES.names) - set(table.column_names):
        table = table.append_column(name, pa.nulls(len(table), RESPONSES.field(name).type))
    return table.select(RESPONSES.names).cast(RESPONSES)
