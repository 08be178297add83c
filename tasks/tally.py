"""What several models pay for together, counted as it comes, and stopped together."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from fute.llm.budget import BudgetExhausted
from fute.llm.types import Answer, ChatRequest, Completer


class Stop:
    """Once a budget is used up nobody asks on: what one would still be allowed to pay for is of no use alone."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self.reason: BaseException | None = None

    def __bool__(self) -> bool:
        return self._told.is_set()

    def tell(self, reason: BaseException) -> None:
        self.reason = self.reason or reason
        self._told.set()


class Tally:
    """A completer around another one: counts every answer that is paid for, whatever becomes of those after it.

    Attributes:
        paid: (3,) calls, tokens in and tokens out.
    """

    def __init__(self, inner: Completer, stop: Stop) -> None:
        self.paid: NDArray[np.int64] = np.zeros(3, np.int64)
        self._inner = inner
        self._stop = stop
        self._lock = threading.Lock()

    def complete(self, request: ChatRequest) -> Answer:
        if self._stop:
            raise BudgetExhausted(f"not asked any more: {self._stop.reason}")
        try:
            answer = self._inner.complete(request)
        except BudgetExhausted as exc:
            self._stop.tell(exc)
            raise
        if not answer.from_cache:
            with self._lock:
                self.paid += [1, answer.tokens_in or 0, answer.tokens_out or 0]
        return answer
