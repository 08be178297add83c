"""Never ask twice: look in the ledger first, and keep each answer the moment it arrives."""

from __future__ import annotations

import secrets
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Protocol

from fute import stopping
from fute.fingerprint import fingerprint
from fute.llm.types import Answer, ChatRequest, Completer

LONGEST_WAIT_S = 0.25  # between two looks for an answer that someone else has asked for


class ResponseLedger(Protocol):
    """Where answers are kept. Its methods are called from many threads."""

    def get(self, key: str) -> Answer | None: ...

    def put(self, request: ChatRequest, answer: Answer) -> None:
        """Keep an answer; durable on return, as far as the ledger is."""

    def claim(self, key: str) -> bool:
        """Whether the caller may ask now. False: someone else is asking. Never waits."""

    def release(self, key: str) -> None:
        """End a claim, whether or not an answer came."""


class MemoryLedger:
    """Keeps answers as long as the process lives: for notebooks, and for use without a store."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}
        self._claimed: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> Answer | None:
        return self._answers.get(key)

    def put(self, request: ChatRequest, answer: Answer) -> None:
        self._answers[request.key] = answer

    def claim(self, key: str) -> bool:
        with self._lock:
            if key in self._claimed:
                return False
            self._claimed.add(key)
            return True

    def release(self, key: str) -> None:
        with self._lock:
            self._claimed.discard(key)


class Cache:
    """The outermost layer. Errors are not kept.

    A cache hit is an answer that would come again: not one drawn above temperature 0, unless the request names its
    sample, and not an empty one, unless it was cut off. Those others are written down too, since they were paid for,
    each under a sample number of its own.
    """

    def __init__(
        self, inner: Completer, ledger: ResponseLedger, place: AbstractContextManager[object] | None = None
    ) -> None:
        """
        Args:
            place: held from before a request is sent until its answer is kept, so that a kill loses no more answers
                than there are places; a cache hit takes none.
        """
        self._inner = inner
        self._ledger = ledger
        self._place = nullcontext() if place is None else place

    def complete(self, request: ChatRequest) -> Answer:
        if not request.repeatable:
            with self._place:
                return self._keep(_under_its_own_number(request), self._inner.complete(request))
        key = request.key
        wait_s = 0.005
        # While someone else is asking, their answer is as good as the claim.
        while not (claimed := self._ledger.claim(key)) and self._ledger.get(key) is None:
            stopping.pause(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        try:
            # Looked at with the claim in hand, so that nobody can have answered between the look and the call.
            if (kept := self._ledger.get(key)) is not None:
                return replace(kept, from_cache=True, key=key)
            with self._place:
                answer = self._inner.complete(request)
                passing = answer.empty and answer.finish_reason != "length"
                return self._keep(_under_its_own_number(request) if passing else request, answer)
        finally:
            if claimed:
                self._ledger.release(key)

    def _keep(self, request: ChatRequest, answer: Answer) -> Answer:
        self._ledger.put(request, answer)
        return replace(answer, key=request.key)


def _under_its_own_number(request: ChatRequest) -> ChatRequest:
    return replace(request, sample=-1 - secrets.randbits(62))


class FreshSamples:
    """Around the cache: asks everything anew, under sample numbers of its own, so that no earlier answer is a hit.
    Within one asking each question is asked once, so one that was stopped goes on with the answers it has paid for.
    """

    def __init__(self, inner: Completer, asking: str) -> None:
        """
        Args:
            asking: names it; another name is another asking.
        """
        self._inner = inner
        # 48 bits, and room for the samples that a prompt takes itself.
        self._first = int(fingerprint(asking=asking)[:12], 16) << 10

    def complete(self, request: ChatRequest) -> Answer:
        return self._inner.complete(replace(request, sample=self._first + (request.sample or 0)))
