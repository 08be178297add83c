"""A question asked anew: under a sample number of its own, so that no answer of an earlier asking is given back."""

from __future__ import annotations

from dataclasses import replace

from fute.fingerprint import fingerprint
from fute.llm.types import Answer, ChatRequest, Completer


class FreshSamples:
    """Around the cache. Within one asking the same question is asked once, whoever asks and however often.

    So an asking that was stopped goes on with the answers that it has paid for.
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
