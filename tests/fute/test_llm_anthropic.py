"""Anthropic's protocol, against a server on loopback that speaks it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from fute.config import EndpointConfig, PromptConfig
from fute.llm.anthropic_messages import connect
from fute.llm.failures import TransientError
from fute.llm.types import ChatRequest, Completer, Message
from fute.models.prompted import PromptedModel
from fute.types import TextTable
from tests import llm_server
from tests.llm_server import LlmServer, by_first_word

CANARY = "sk-ant-canary-0123456789"
PROMPT = PromptConfig(
    id="p",
    template="Is this positive or negative?\n{{text}}",
    verbalizer={"negative": ["negative"], "positive": ["positive"]},
)


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with LlmServer(by_first_word) as server:
        yield server


def client(server: LlmServer, api_key: str | None = None) -> Completer:
    return connect(EndpointConfig(id="e", api="anthropic", base_url=server.base_url, model="m"), api_key)


def ask(text: str = "good", **fields: object) -> ChatRequest:
    messages = (Message("system", "Be brief."), Message("user", text))
    return ChatRequest("s", "http://nowhere", "m", messages, api="anthropic", **fields)  # type: ignore[arg-type]


def blocks(*content: object, stop_reason: str = "end_turn") -> llm_server.Fault:
    return llm_server.text_instead(json.dumps({"content": content, "stop_reason": stop_reason}).encode())


def test_a_question_goes_out_in_its_protocol_and_the_answer_comes_back(server):
    answer = client(server, api_key=CANARY).complete(ask())
    assert (answer.text, answer.finish_reason, answer.resolved_model) == ("positive", "stop", "test-model")
    assert (answer.tokens_in, answer.tokens_out, answer.logprobs) == (1, 1, None)
    assert server.paths == ["/v1/messages"]
    assert server.requests[0] == {
        "model": "m", "max_tokens": 8, "temperature": 0.0, "system": "Be brief.",
        "messages": [{"role": "user", "content": "good"}],
    }  # fmt: skip
    assert server.headers[0]["x-api-key"] == CANARY
    assert "anthropic-version" in server.headers[0]


def test_nothing_is_taken_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "from-the-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "from-the-environment")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    client(server).complete(ask())
    client(server, api_key=CANARY).complete(ask())
    assert "from-the-environment" not in json.dumps(server.headers)
    assert not {"x-api-key", "authorization"} & set(server.headers[0])
    assert CANARY in json.dumps(server.headers[1])


def test_a_prompted_model_reads_its_texts(server):
    endpoint = EndpointConfig(id="e", api="anthropic", base_url=server.base_url, model="m", timeout_s=5)
    outputs = PromptedModel("m1", PROMPT, endpoint).outputs(TextTable(["good", "poor"])).validate(2)
    np.testing.assert_array_equal(outputs.values, [[0, 1], [1, 0]])
    assert outputs.details["from_text"] == 2
    assert "logprobs" not in server.requests[0]


def test_its_address_is_the_vendors_unless_the_study_says_otherwise():
    assert EndpointConfig(id="e", api="anthropic", model="m").address == "https://api.anthropic.com"


def test_thinking_blocks_are_left_out_and_refusals_are_told(server):
    thought = {"type": "thinking", "thinking": "positive?"}
    server.misbehave(blocks(thought, {"type": "text", "text": "nega"}, {"type": "text", "text": "tive"}))
    assert client(server).complete(ask()).text == "negative"
    server.misbehave(blocks(stop_reason="refusal"))
    assert client(server).complete(ask()).refused
    server.misbehave(llm_server.text_instead(b'{"content": "negative", "stop_reason": "end_turn"}'))
    assert client(server).complete(ask()).text == "negative"
    server.misbehave(blocks(thought, stop_reason="max_tokens"))
    cut = client(server).complete(ask())
    assert (cut.empty, cut.finish_reason) == (True, "length")


@pytest.mark.parametrize(
    ("body", "message"), [(b'{"content": null}', "no content"), (b'{"content": [{"type": "text"}]}', "without a text")]
)
def test_what_is_no_message_is_transient(server, body, message):
    server.misbehave(llm_server.text_instead(body))
    with pytest.raises(TransientError, match=message):
        client(server).complete(ask())


def test_errors_are_told_in_the_vendors_words_and_without_the_key(server):
    def fault(exchange, request):
        said = f"busy with {exchange.headers['X-Api-Key']}"
        exchange.reply(529, {"error": {"type": "overloaded_error", "message": said}}, {"Retry-After": "7"})
        return True

    server.misbehave(fault)
    with pytest.raises(TransientError, match=r"HTTP 529 \(overloaded_error\): busy with \[API key\]") as caught:
        client(server, api_key=CANARY).complete(ask())
    assert caught.value.retry_after_s == 7
    too_long = {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"}
    server.misbehave(llm_server.status(400, error=too_long))
    assert client(server).complete(ask()).finish_reason == "too_long"
