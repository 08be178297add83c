"""Asked anew under a name: what was answered under it is found again, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from fute.config import BudgetConfig, EndpointConfig, PromptConfig
from fute.errors import ModelError
from fute.llm.budget import Account
from fute.llm.cache import FreshSamples, MemoryLedger
from fute.llm.client import connect
from fute.models.prompted import PromptedModel
from fute.types import TextTable
from storage.budgets import StoredAccount
from tests.llm_server import LlmServer, by_first_word

TEXTS = TextTable([f"text {i} {'good' if i % 2 else 'bad'}" for i in range(100)])
PROMPT = PromptConfig(id="p", template="Q?\n{{text}}", verbalizer={"positive": ["positive"], "negative": ["negative"]})


def asked(
    server: LlmServer, ledger: MemoryLedger, asking: str | None, accounts: Sequence[Account] = (), **decoding
) -> None:
    """All texts, by a run of its own."""
    endpoint = EndpointConfig(id="e", base_url=server.base_url, model="m", max_concurrency=8)
    client = connect(endpoint, ledger=ledger, accounts=accounts)
    completer = client if asking is None else FreshSamples(client, asking)
    PromptedModel("m", PROMPT, endpoint, completer=completer, **decoding).outputs(TEXTS)


def test_an_asking_that_was_stopped_goes_on_and_another_starts_anew(tmp_path) -> None:
    ledger = MemoryLedger()
    first, second = ([StoredAccount(tmp_path, run, "the run", BudgetConfig(max_calls=60))] for run in "ab")
    with LlmServer(by_first_word) as server:
        asked(server, ledger, None)  # answers that are no part of any asking
        assert server.n_requests == 100
        with pytest.raises(ModelError, match="is not paid again"):
            asked(server, ledger, "monday", first)
        assert server.n_requests == 160
        asked(server, ledger, "monday", second)
        assert server.n_requests == 200
        asked(server, ledger, "monday")
        assert server.n_requests == 200
        asked(server, ledger, "tuesday")
        assert server.n_requests == 300


def test_two_that_ask_at_once_under_one_name_ask_once() -> None:
    ledger = MemoryLedger()
    with LlmServer(by_first_word, latency_s=0.005) as server, ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda asking: asked(server, ledger, asking), ["monday"] * 2))
        assert server.n_requests == 100


def test_samples_of_one_question_stay_apart() -> None:
    ledger = MemoryLedger()
    with LlmServer(by_first_word) as server:
        for _ in range(2):
            asked(server, ledger, "monday", temperature=0.7, samples=3)
        assert server.n_requests == 300
        assert set(server.asked.values()) == {3}
