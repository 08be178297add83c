"""How much is asked of an endpoint: at once, and in a minute.

Several prompts run at once, and an endpoint counts them together. So all clients of a service in this process share its
places and its pace; where they differ, the tightest holds for all, for as long as any of them lives.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from fute import stopping
from fute.llm.types import Answer, ChatRequest, Completer

logger = logging.getLogger(__name__)

Pace = Callable[[int], None]
"""Told the likely tokens of a request, it returns when the request may be sent. Called from many threads."""

T = TypeVar("T")

_of_services: WeakValueDictionary[tuple[type, str], Any] = WeakValueDictionary()
_shared_lock = threading.Lock()


def _shared(kind: type[T], service: str) -> T:
    with _shared_lock:
        found = _of_services.get((kind, service))
        if found is None:
            found = _of_services[kind, service] = kind()
        return found


class Places:
    """Places for requests in flight, each taken with `with`.

    A request that waits for a retry keeps its place, so an endpoint that says "too many" is asked less.
    """

    def __init__(self) -> None:
        self.most: int | None = None
        self._taken = 0
        self._changed = threading.Condition()

    def allow(self, most: int, service: str) -> None:
        with self._changed:
            least = most if self.most is None else min(most, self.most)
            if self.most not in (None, most):
                says = f"max_concurrency is {self.most} here and {most} there; {least} holds for all of this service"
                logger.warning("%s: %s", service, says)
            self.most = least

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.most is None or self._taken < self.most)
            self._taken += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._taken -= 1
            self._changed.notify()


def places_at(service: str, most: int) -> Places:
    """Places for at most so many requests in flight to one service, whichever model or prompt asks."""
    places = _shared(Places, service)
    places.allow(most, service)
    return places


def workers_for(in_flight: int) -> int:
    """Threads that keep so many requests in flight: a quarter more, since some prepare requests or read answers. A
    single one stays alone, and asks in order."""
    return in_flight + in_flight // 4


class Paced:
    """Waits until a request may be sent. Within the retry layer, since each attempt counts at the endpoint."""

    def __init__(self, inner: Completer, pace: Pace) -> None:
        self._inner = inner
        self._pace = pace

    def complete(self, request: ChatRequest) -> Answer:
        self._pace(request.likely_tokens)
        return self._inner.complete(request)


class LocalPace:
    """Requests and tokens a minute for the threads of one process: evenly spaced, so no burst is ever too much.

    Args:
        clock: seconds that only grow.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = stopping.pause
    ) -> None:
        self._s_a_request = self._s_a_token = 0.0
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0  # when the next request may go out
        self._lock = threading.Lock()

    def allow(self, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        with self._lock:
            if requests_per_minute:
                self._s_a_request = max(self._s_a_request, 60.0 / requests_per_minute)
            if tokens_per_minute:
                self._s_a_token = max(self._s_a_token, 60.0 / tokens_per_minute)

    def __call__(self, tokens: int) -> None:
        with self._lock:
            now = self._clock()
            start = max(now, self._next)
            # Whichever takes longer, the request's share of a minute or its tokens', is when the next may follow.
            self._next = start + max(self._s_a_request, tokens * self._s_a_token)
        if start > now:
            self._sleep(start - now)


def local_pace(service: str, requests_per_minute: int | None, tokens_per_minute: int | None) -> Pace | None:
    """The pace of a service in this process; None where nothing limits it."""
    if requests_per_minute is None and tokens_per_minute is None:
        return None
    pace = _shared(LocalPace, service)
    pace.allow(requests_per_minute, tokens_per_minute)
    return pace
