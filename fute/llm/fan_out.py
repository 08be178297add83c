"""Many requests in flight: items are drawn one by one; the first failure, or the end of the run, stops the drawing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from fute import stopping

T = TypeVar("T")

_NO_MORE: Any = object()


def fan_out(items: Iterable[T], work: Callable[[T], None], n_threads: int) -> BaseException | None:
    """Do the work on every item, at most so many at once.

    Returns:
        The first failure (Stopped where the run is being stopped); None where there was none. After a failure no item
        is begun; those in work are finished.
    """
    # Drawn under a lock as they are wanted: a queue of all requests of a large pool would be memory for nothing.
    pending = iter(items)
    lock = threading.Lock()
    failure: BaseException | None = None

    def drain() -> None:
        nonlocal failure
        while True:
            try:
                stopping.check()
                with lock:
                    if failure is not None:
                        return
                    item = next(pending, _NO_MORE)
                if item is _NO_MORE:
                    return
                work(cast(T, item))
            except BaseException as exc:
                with lock:
                    failure = failure or exc
                return

    with ThreadPoolExecutor(n_threads, thread_name_prefix="llm") as pool:
        try:
            for future in [pool.submit(drain) for _ in range(n_threads)]:
                future.result()
        except BaseException as exc:  # an interrupt of the waiting thread: the workers must stop as well
            with lock:
                failure = failure or exc
            raise
    return failure
