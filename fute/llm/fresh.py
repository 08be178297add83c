"""A question asked anew: under a sample number of its own, so that no kept answer is given back."""

from __future__ import annotations

import secrets
from dataclasses import replace

from fute.llm.types import Answer, ChatRequest, Completer


class FreshSamples:
    """Around the cache. Within one object the same question is still asked once."""

    def __init__(self, inner: Completer) -> None:
        self._inner = inner
        self._first = secrets.randbits(48) << 10  # room for the samples that a prompt takes itself

    def complete(self, request: ChatRequest) -> Answer:
        return self._inner.complete(replace(request, sample=self._first + (request.sample or 0)))
