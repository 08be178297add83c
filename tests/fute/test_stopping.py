"""Once a run is being stopped nothing new is asked or computed, no wait is waited out, and nothing is charged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fute import stopping
from fute.config import BudgetConfig, EndpointConfig
from fute.llm.budget import Budget
from fute.llm.cache import MemoryLedger
from fute.llm.client import Stoppable, connect
from fute.llm.fan_out import fan_out
from fute.llm.types import Answer, ChatRequest, Message
from fute.models.encoding import Encoded, pad
from fute.stopping import Stopped
from storage.budgets import StoredAccount
from tests.llm_server import LlmServer, by_first_word, too_many_requests


@pytest.fixture(autouse=True)
def afterwards() -> Iterator[None]:
    yield
    stopping.reset()


def question(base_url: str, text: str) -> ChatRequest:
    return ChatRequest("service", base_url, "test-model", (Message("user", text),), max_tokens=8)


def stopped_when(reached: Callable[[], bool]) -> threading.Thread:
    """Stop as soon as something is reached, in another thread."""

    def wait() -> None:
        while not reached():
            time.sleep(0.005)
        stopping.stop()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_no_question_leaves_after_a_stop_and_those_in_flight_are_answered_and_kept() -> None:
    ledger = MemoryLedger()
    with LlmServer(by_first_word, latency_s=0.1) as server:
        endpoint = EndpointConfig(id="e", base_url=server.base_url, model="test-model", max_concurrency=4)
        client = connect(endpoint, ledger=ledger)
        stop = stopped_when(lambda: server.n_requests >= 10)
        failure = fan_out(range(200), lambda n: client.complete(question(server.base_url, f"good {n}")) and None, 8)
        stop.join()
    assert isinstance(failure, Stopped)
    assert server.n_requests <= 10 + 4
    assert len(ledger) == server.n_requests == len(server.answered)


def test_a_wait_before_another_attempt_ends_with_the_run_and_not_in_a_question() -> None:
    with LlmServer(by_first_word) as server:
        endpoint = EndpointConfig(id="e", base_url=server.base_url, model="test-model", requests_per_minute=1)
        client = connect(endpoint, ledger=MemoryLedger())
        server.misbehave(too_many_requests(retry_after="60"), times=9)
        stop = stopped_when(lambda: server.n_requests == 1)
        started = time.monotonic()
        with pytest.raises(Stopped):
            client.complete(question(server.base_url, "good"))
        with pytest.raises(Stopped):  # nor does it wait for its turn within the minute
            client.complete(question(server.base_url, "better"))
        stop.join()
        assert time.monotonic() - started < 10
    assert server.n_requests == 1


def test_a_question_that_was_not_asked_costs_nothing(tmp_path: Path) -> None:
    class Never:
        def complete(self, request: ChatRequest) -> Answer:
            raise AssertionError("asked")

    account = StoredAccount(tmp_path, "run-1", "the run", BudgetConfig(max_calls=1))
    budget = Budget(Stoppable(Never()), EndpointConfig(id="e", base_url="http://127.0.0.1:9/v1", model="m"), [account])
    stopping.stop()
    for _ in range(3):
        with pytest.raises(Stopped):
            budget.complete(question("http://127.0.0.1:9/v1", "good"))


def test_a_loop_over_batches_ends_at_its_next_batch() -> None:
    class Tokenizer:
        def pad(self, fields: list[dict[str, list[int]]], return_tensors: str) -> dict[str, torch.Tensor]:
            return {"input_ids": torch.tensor([each["input_ids"] for each in fields])}

    encoded = Encoded([{"input_ids": [1, 2]}], np.array([2]), 0)
    assert pad(Tokenizer(), encoded, np.array([0]), torch.device("cpu"))
    stopping.stop()
    with pytest.raises(Stopped):
        pad(Tokenizer(), encoded, np.array([0]), torch.device("cpu"))
    stopping.reset()
    assert pad(Tokenizer(), encoded, np.array([0]), torch.device("cpu"))


def test_what_carries_on_after_failures_does_not_after_a_stop() -> None:
    assert not issubclass(Stopped, Exception)
