"""The last gate before the network: once a run is being stopped, no question leaves."""

from __future__ import annotations

from fute import stopping
from fute.llm.types import Answer, ChatRequest, Completer


class Stoppable:
    """Innermost, so that no wait in another layer (a retry, a pace, a place) ends in a question after the stop."""

    def __init__(self, inner: Completer) -> None:
        self._inner = inner

    def complete(self, request: ChatRequest) -> Answer:
        stopping.check()
        return self._inner.complete(request)
