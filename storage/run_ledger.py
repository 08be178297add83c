"""The ledger as one run sees it: what it pays for is written down with what it cost and whose run it was."""

from __future__ import annotations

from fute.config import EndpointConfig
from fute.llm.budget import cost_usd
from fute.llm.types import Answer, ChatRequest
from storage.answer_rows import Bill
from storage.responses import ResponseStore
from storage.stamp import Stamp


class RunLedger:
    """A ResponseLedger over a response store, for one run at one endpoint."""

    def __init__(self, responses: ResponseStore, endpoint: EndpointConfig, stamp: Stamp) -> None:
        self._responses = responses
        self._endpoint = endpoint
        self._stamp = stamp

    def get(self, key: str) -> Answer | None:
        return self._responses.get(key)

    def put(self, request: ChatRequest, answer: Answer) -> None:
        cost = cost_usd(self._endpoint, answer.tokens_in, answer.tokens_out)
        self._responses.put(request, answer, Bill(cost, self._stamp.run_id, self._stamp.flow_run_id))

    def claim(self, key: str) -> bool:
        return self._responses.claim(key)

    def release(self, key: str) -> None:
        self._responses.release(key)
