"""The tests' own server: what it counts, and each way in which it can misbehave, seen through a real client."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fute.config import EndpointConfig
from fute.errors import ModelError
from fute.llm.cache import MemoryLedger
from fute.llm.client import connect
from fute.llm.failures import TransientError
from fute.llm.transport import connect as connect_chat
from fute.llm.types import ChatRequest, Message
from tests import llm_server
from tests.llm_server import LlmServer, by_first_word


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with LlmServer(by_first_word) as server:
        yield server


def ask(text: str = "good", **fields: object) -> ChatRequest:
    return ChatRequest("s", "http://nowhere", "m", (Message("user", text),), **fields)  # type: ignore[arg-type]


def endpoint(server: LlmServer, **fields: object) -> EndpointConfig:
    return EndpointConfig.model_validate(
        {"id": "e", "base_url": server.base_url, "model": "m", "timeout_s": 5, **fields}
    )


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (llm_server.too_many_requests("3"), "HTTP 429"),
        (llm_server.too_many_requests(), "HTTP 429"),
        (llm_server.server_errors(), "HTTP 500"),
        (llm_server.server_errors(503), "HTTP 503"),
        (llm_server.half_closed, "connection failed"),
        (llm_server.broken_json(), "not JSON"),
        (llm_server.hang(0.6), "no answer within 0.3 s"),
        (llm_server.drip(0.05, 20), "no answer within 0.3 s"),
    ],
)
def test_each_passing_fault_is_met_once_and_counted_before_the_client_knows(server, fault, message):
    server.misbehave(fault)
    client = connect_chat(endpoint(server, timeout_s=0.3 if "0.3" in message else 5), None)
    with pytest.raises(TransientError, match=message):
        client.complete(ask())
    assert (server.n_requests, server.answered) == (1, [])
    connect_chat(endpoint(server), None).complete(ask())
    assert (server.asked["good"], server.answered) == (2, ["good"])


def test_what_is_no_answer_at_all_is_told_from_refusals_and_empty_answers(server):
    client = connect_chat(endpoint(server), None)
    server.misbehave(llm_server.web_page())
    with pytest.raises(ModelError, match="a web page came back"):
        client.complete(ask())
    for fault, refused, empty in (
        (llm_server.content_filter(), True, False),
        (llm_server.content_filter(as_status=True), True, False),
        (llm_server.empty_answer(), False, True),
    ):
        server.misbehave(fault)
        answer = client.complete(ask())
        assert (answer.refused, answer.empty) == (refused, empty)
    assert server.n_requests == 4


def test_a_burst_of_errors_ends_and_the_request_that_was_hit_is_answered(server, monkeypatch):
    monkeypatch.setattr("fute.llm.retry.seconds_before_next", lambda *_: 0.0)
    server.misbehave(llm_server.server_errors(), times=4)
    client = connect(endpoint(server), ledger=MemoryLedger())
    with ThreadPoolExecutor(4) as pool:
        texts = [answer.text for answer in pool.map(lambda i: client.complete(ask(f"good {i}")), range(12))]
    assert texts == ["positive"] * 12
    assert server.n_requests == 16
    assert sorted(server.answered) == sorted(f"good {i}" for i in range(12))


def test_a_model_can_change_behind_its_name_from_some_request_on(server):
    client = connect_chat(endpoint(server), None)

    def other(prompt: str, system: str | None) -> list[tuple[str, float]]:
        return [("negative", 0.9), ("positive", 0.1)]

    server.change_answers(other, after=2)
    answers = [client.complete(ask(f"good {i}")) for i in range(4)]
    assert [answer.text for answer in answers] == ["positive", "positive", "negative", "negative"]
    assert {answer.resolved_model for answer in answers} == {"test-model"}


def test_above_temperature_zero_answers_are_drawn_and_equal_questions_get_several(server):
    client = connect_chat(endpoint(server), None)
    texts = [client.complete(ask("good", temperature=1.0, top_logprobs=None)).text for _ in range(60)]
    assert 30 < texts.count("positive") < 60  # its probability is 0.8


def test_all_three_protocols_are_spoken_and_counted_together(server):
    for api in ("openai_chat", "openai_completions", "anthropic"):
        client = connect(endpoint(server, api=api), ledger=MemoryLedger())
        assert client.complete(ask(api=api, top_logprobs=None)).text.strip() == "positive"
    assert server.asked == {"good": 3}
    assert server.paths == ["/v1/chat/completions", "/v1/completions", "/v1/messages"]
