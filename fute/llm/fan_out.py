"""Many requests in flight: threads draw items one by one until the first failure, or until the run is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from fute import stopping

T = TypeVar("T")

_NO_MORE: Any = object()


def fan_out(items: Iterable[T], work: Callable[[T], None], n_threads: int) -> BaseException | None:
    """Do the work on every item, at most n_threads at once. After a failure no item is begun; those begun are finished.

    Returns:
        The first failure (Stopped if the run is being stopped); None if there was none.
    """
    # Drawn as they are wanted: a queue of all requests of a large pool would be memory for nothing.
    pending = iter(items)
    lock = threading.Lock()
    failures: list[BaseException] = []

    def draw() -> Any:
        stopping.check()
        with lock:
            return _NO_MORE if failures else next(pending, _NO_MORE)

    def drain() -> None:
        try:
            while (item := draw()) is not _NO_MORE:
                work(item)
        except BaseException as exc:
            failures.append(exc)

    with ThreadPoolExecutor(n_threads, thread_name_prefix="llm") as pool:
        try:  # each in the caller's context: an engine tells by it whose lines of the log are whose
            for future in [pool.submit(copy_context().run, drain) for _ in range(n_threads)]:
                future.result()
        except BaseException as exc:  # an interrupt of the waiting thread: the workers must stop as well
            failures.append(exc)
            raise
    return failures[0] if failures else None
