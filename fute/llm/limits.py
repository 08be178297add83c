"""How much is asked of an endpoint: at once, and in a minute."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from fute.llm.estimate import likely_tokens
from fute.llm.types import Answer, ChatRequest, Completer

logger = logging.getLogger(__name__)

Pace = Callable[[int], None]
"""Told the likely tokens of a request, it returns when the request may be sent. Called from many threads."""

_slots: WeakValueDictionary[str, _Slots] = WeakValueDictionary()
_paces: dict[tuple[str, int | None, int | None], LocalPace] = {}
_shared_lock = threading.Lock()


class MaxConcurrency:
    """At most so many requests in flight to one service from this process, whichever model or prompt asks.

    A request that waits before another attempt keeps its place: an endpoint that says "too many" is asked less. Where
    the clients of a service differ in their number, the smallest holds for all, for as long as any of them lives.
    """

    def __init__(self, inner: Completer, service: str, max_concurrency: int) -> None:
        self._inner = inner
        with _shared_lock:
            # Shared by all clients of the service: several prompts run at once, and the endpoint counts them together.
            slots = _slots.get(service)
            if slots is None:
                slots = _slots[service] = _Slots(max_concurrency)
        slots.allow(max_concurrency, service)
        self._slots = slots

    def complete(self, request: ChatRequest) -> Answer:
        with self._slots:
            return self._inner.complete(request)


class _Slots:
    """Places for requests in flight; fewer later on, where someone allows fewer."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._changed = threading.Condition()

    def allow(self, most: int, service: str) -> None:
        with self._changed:
            if most != self._most:
                logger.warning(
                    "%s: max_concurrency is %d here and %d there; %d holds for all of this service",
                    service, self._most, most, min(most, self._most),
                )  # fmt: skip
            self._most = min(most, self._most)

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._most)
            self._taken += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._taken -= 1
            self._changed.notify()


class Paced:
    """Waits until a request may be sent. Within the retry layer, since each attempt counts at the endpoint."""

    def __init__(self, inner: Completer, pace: Pace) -> None:
        self._inner = inner
        self._pace = pace

    def complete(self, request: ChatRequest) -> Answer:
        self._pace(likely_tokens(request))
        return self._inner.complete(request)


class LocalPace:
    """Requests and tokens a minute for the threads of one process: evenly spaced, so no burst is ever too much.

    Args:
        clock: seconds that only grow.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._s_a_request = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._s_a_token = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0  # when the next request may go out
        self._lock = threading.Lock()

    def __call__(self, tokens: int) -> None:
        with self._lock:
            now = self._clock()
            start = max(now, self._next)
            # Whichever takes longer, the request's share of a minute or its tokens', is when the next may follow.
            self._next = start + max(self._s_a_request, tokens * self._s_a_token)
        if start > now:
            self._sleep(start - now)


def local_pace(service: str, requests_per_minute: int | None, tokens_per_minute: int | None) -> Pace | None:
    """The pace of a service in this process, one for all its clients; None where nothing limits it."""
    if requests_per_minute is None and tokens_per_minute is None:
        return None
    key = (service, requests_per_minute, tokens_per_minute)
    with _shared_lock:
        if key not in _paces:
            _paces[key] = LocalPace(requests_per_minute, tokens_per_minute)
        return _paces[key]
