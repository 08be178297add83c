"""How much is asked of an endpoint at once."""

from __future__ import annotations

import threading

from fute.llm.types import Answer, ChatRequest, Completer

_slots: dict[tuple[str, int], threading.BoundedSemaphore] = {}
_slots_lock = threading.Lock()


class MaxConcurrency:
    """At most so many requests in flight to one service from this process, whichever model or prompt asks.

    A request that waits before another attempt keeps its place: an endpoint that says "too many" is asked less.
    """

    def __init__(self, inner: Completer, service: str, max_concurrency: int) -> None:
        self._inner = inner
        with _slots_lock:
            # Shared by all clients of the service: several prompts run at once, and the endpoint counts them together.
            self._slots = _slots.setdefault((service, max_concurrency), threading.BoundedSemaphore(max_concurrency))

    def complete(self, request: ChatRequest) -> Answer:
        with self._slots:
            return self._inner.complete(request)
