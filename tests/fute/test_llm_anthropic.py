"""Anthropic's protocol, against a server on loopback that speaks it."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator

import numpy as np
import pytest

from fute.config import EndpointConfig, PromptConfig
from fute.errors import ModelError
from fute.llm.anthropic_messages import connect
from fute.llm.failures import TransientError, UnusableAnswer
from fute.llm.retry import Retry
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


def client(server: LlmServer, api_key: str | None = None, timeout_s: float = 30.0) -> Completer:
    endpoint = EndpointConfig(id="e", api="anthropic", base_url=server.base_url, model="m", timeout_s=timeout_s)
    return connect(endpoint, api_key)


def ask(text: str = "good", **fields: object) -> ChatRequest:
    messages = (Message("system", "Be brief."), Message("user", text))
    return ChatRequest("s", "http://nowhere", "m", messages, api="anthropic", **fields)  # type: ignore[arg-type]


def sent_key(server: LlmServer) -> str:
    """Of the last request: versions of the SDK differ in the header."""
    headers = server.headers[-1]
    return headers.get("x-api-key") or headers.get("authorization", "")


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
    assert CANARY in sent_key(server)
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
    server.misbehave(blocks(thought, stop_reason="max_tokens"))
    cut = client(server).complete(ask())
    assert (cut.empty, cut.finish_reason) == (True, "length")


@pytest.mark.parametrize("code", [408, 409, 429, 500, 529])
def test_a_status_that_may_pass_is_transient_and_sent_once(server, code):
    error = {"type": "overloaded_error", "message": "busy now"}
    server.misbehave(llm_server.status(code, {"Retry-After": "7"}, error))
    with pytest.raises(TransientError, match=rf"HTTP {code} \(overloaded_error\): busy now") as caught:
        client(server).complete(ask())
    assert caught.value.retry_after_s == 7
    assert server.n_requests == 1


@pytest.mark.parametrize("code", [400, 401, 403, 404])
def test_a_status_that_will_not_pass_is_raised_at_once(server, code):
    server.misbehave(llm_server.status(code))
    with pytest.raises(ModelError, match=f"HTTP {code}") as caught:
        client(server).complete(ask())
    assert not isinstance(caught.value, TransientError)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (llm_server.broken_json(), "not JSON"),
        (llm_server.text_instead(b'{"content": null}'), "no content"),
        (llm_server.text_instead(b'{"content": [{"type": "text"}]}'), "without a text"),
        (llm_server.half_closed, "connection failed"),
        (llm_server.hang(0.6), "no answer within 0.3 s"),
        (llm_server.drip(0.05, 20), "no answer within 0.3 s"),
    ],
)
def test_broken_silent_and_dripping_answers_are_transient(server, fault, message):
    server.misbehave(fault)
    with pytest.raises(TransientError, match=message):
        client(server, timeout_s=0.3 if "0.3" in message else 5.0).complete(ask())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (llm_server.web_page(), "a web page came back"),
        (llm_server.text_instead(b" " * 4_000_001), "larger than 4,000,000 bytes"),
        (llm_server.compressed(b"{}"), "compressed"),
        (llm_server.status(307, {"Location": "http://127.0.0.1:9/steal"}), "not followed"),
    ],
)
def test_answers_that_will_not_get_better_are_refused_at_once(server, fault, message):
    server.misbehave(fault)
    with pytest.raises(ModelError, match=message) as caught:
        client(server).complete(ask())
    assert not isinstance(caught.value, TransientError)


@pytest.mark.parametrize("code", [307, 400, 401, 429, 500])
def test_the_key_appears_in_no_error_log_or_traceback(server, caplog, code):
    def repeats_the_key(exchange, request):
        exchange.reply(code, {"error": {"message": f"cannot work with {sent_key(server)}"}})
        return True

    caplog.set_level(logging.DEBUG)
    server.misbehave(repeats_the_key, times=2)
    layers = Retry(client(server, api_key=CANARY), max_attempts=2, sleep=lambda seconds: None)
    with pytest.raises(ModelError) as caught:
        layers.complete(ask())
    assert CANARY in sent_key(server)
    assert CANARY not in "".join(traceback.format_exception(caught.value)) + caplog.text + repr(layers.__dict__)
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY not in repr(error.__dict__) + repr(error.args)
        assert type(error).__module__.startswith("fute")
        error = error.__cause__ or error.__context__


def test_a_key_that_is_written_in_escapes_is_taken_out_of_the_answer(server):
    escaped = CANARY.replace("-", "\\u002d")
    body = f'{{"content": [{{"type": "text", "text": "it is {escaped}"}}], "model": "{escaped}"}}'
    server.misbehave(llm_server.text_instead(body.encode()))
    answer = client(server, api_key=CANARY).complete(ask())
    assert (answer.text, answer.resolved_model) == ("it is [API key]", "[API key]")


def test_a_prompt_that_is_too_long_has_no_answer_and_ends_nothing(server):
    error = {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"}
    server.misbehave(llm_server.status(400, error=error))
    assert client(server).complete(ask()).finish_reason == "too_long"


def test_a_stream_that_nobody_asked_for_is_refused_and_an_error_in_it_is_told(server):
    def stream(*events: dict[str, object]) -> llm_server.Fault:
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
        return llm_server.text_instead("".join(lines).encode(), "text/event-stream")

    begun = {"type": "message_start", "message": {"model": "m1", "content": []}}
    server.misbehave(stream(begun, {"type": "message_stop"}))
    with pytest.raises(UnusableAnswer, match="a stream of events, though that was not asked for"):
        client(server).complete(ask())
    server.misbehave(stream(begun, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}))
    with pytest.raises(TransientError, match=r"\(overloaded_error\): busy"):
        client(server).complete(ask())


def test_content_that_is_a_text_is_the_answer(server):
    server.misbehave(llm_server.text_instead(b'{"content": "negative", "stop_reason": "end_turn"}'))
    assert client(server).complete(ask()).text == "negative"


def test_an_endpoint_is_connected_without_a_request(server):
    endpoint = EndpointConfig(id="e", api="anthropic", base_url=server.base_url, model="m")
    assert connect(endpoint, CANARY).complete(ask()).text == "positive"
    assert server.n_requests == 1
