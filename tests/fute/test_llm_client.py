"""The layers of the client, against a real server on loopback that misbehaves on demand."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from fute.config import EndpointConfig
from fute.errors import ConfigError, ModelError
from fute.llm.asked_waits import wait_asked_s
from fute.llm.cache import Cache, MemoryLedger
from fute.llm.client import connect
from fute.llm.failures import InputFailed, Secret, TransientError, UnusableAnswer
from fute.llm.limits import local_pace, places_at
from fute.llm.retry import Retry, seconds_before_next
from fute.llm.transport import Transport
from fute.llm.types import Answer, ChatRequest, Message
from fute.llm.wire import CHAT_WIRE
from tests import llm_server
from tests.llm_server import LlmServer, by_first_word

CANARY = "sk-canary-0123456789abcdef"


@pytest.fixture(scope="module")
def running() -> Iterator[LlmServer]:
    with LlmServer(by_first_word) as server:
        yield server


@pytest.fixture
def server(running: LlmServer) -> LlmServer:
    running.asked.clear()
    running.headers.clear()
    running.requests.clear()
    running._faults.clear()
    return running


def ask(text: str = "good", **fields) -> ChatRequest:
    request = ChatRequest("service", "http://nowhere", "m", (Message("user", text),))
    return replace(request, **fields)


def answering(status: int, body: bytes) -> llm_server.Fault:
    def fault(exchange, request):
        exchange.send(status, body, "application/json")
        return True

    return fault


def transport(server: LlmServer, **options) -> Transport:
    return Transport(server.base_url, **{"timeout_s": 30.0, **options})


# ------------------------------------------------------------------------------------------------------------- identity


def test_the_key_of_a_request_depends_on_everything_that_can_change_the_answer():
    requests = [
        ask(),
        ask("other"),
        ask(service="s2"),
        ask(model="m2"),
        ask(temperature=0.5),
        ask(max_tokens=9),
        ask(top_logprobs=None),
        ask(sample=1),
        ask(messages=(Message("system", "x"), Message("user", "good"))),
        ask(messages=(Message("system", "good"),)),
    ]
    assert len({request.key for request in requests}) == len(requests)


def test_the_key_does_not_depend_on_the_address_or_on_how_a_number_is_written():
    assert ask().key == ask(base_url="http://elsewhere").key
    assert ask(temperature=0).key == ask(temperature=0.0).key


# ------------------------------------------------------------------------------------------------------------ transport


def test_an_answer_comes_with_log_probabilities_tokens_and_the_resolved_model(server):
    answer = transport(server).complete(ask())
    assert answer.text == "positive"
    assert answer.resolved_model == "test-model"
    assert answer.finish_reason == "stop"
    assert (answer.tokens_in, answer.tokens_out) == (1, 1)
    assert answer.latency_ms > 0
    assert answer.logprobs is not None
    assert [token for token, _ in answer.logprobs[0].top] == ["positive", "negative"]
    assert answer.logprobs[0].logprob == pytest.approx(-0.2231, abs=1e-4)
    sent = server.requests[-1]
    assert sent["model"] == "m"
    assert sent["temperature"] == 0.0
    assert sent["max_tokens"] == 8
    assert sent["top_logprobs"] == 20


def test_log_probabilities_are_not_asked_for_where_the_endpoint_has_none(server):
    assert transport(server).complete(ask(top_logprobs=None)).logprobs is None
    assert "logprobs" not in server.requests[-1]


def test_the_key_is_sent_as_a_bearer_token_and_nothing_else_is_taken_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    transport(server, api_key=f" {CANARY}\n").complete(ask())
    transport(server).complete(ask())
    with_key, without = server.headers[-2:]
    assert with_key["authorization"] == f"Bearer {CANARY}"
    assert "authorization" not in without
    assert "openai-organization" not in with_key


def test_requests_differ_in_their_body_only(server):
    client = transport(server, api_key=CANARY)
    for text in ("good", "bad", "a longer one"):
        client.complete(ask(text))
    assert [request["messages"][0]["content"] for request in server.requests] == ["good", "bad", "a longer one"]
    first, *others = [{k: v for k, v in headers.items() if k != "content-length"} for headers in server.headers]
    assert first["user-agent"] == "fute"
    assert others == [first, first]


def test_a_key_that_cannot_be_sent_is_refused_without_being_shown():
    with pytest.raises(ConfigError, match="holds a blank, a line break") as caught:
        Transport("http://127.0.0.1:1/v1", api_key="sk-canary\nsecond line")
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(Secret(CANARY))


@pytest.mark.parametrize(
    ("code", "error", "kind"),
    [
        *((code, None, TransientError) for code in (408, 409, 425, 429, 500, 502, 503, 529)),
        *((code, None, ModelError) for code in (401, 402, 404, 405)),
        *((code, None, InputFailed) for code in (400, 403, 418, 422)),
        (429, {"message": "pay first", "code": "insufficient_quota"}, ModelError),  # no wait fills an account
    ],
)
def test_the_status_says_whether_another_attempt_or_another_input_may_fare_better(server, code, error, kind):
    server.misbehave(llm_server.status(code, error=error))
    with pytest.raises(ModelError, match=f"HTTP {code}.*{'pay first' if error else 'made-up failure'}") as caught:
        transport(server).complete(ask())
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (llm_server.text_instead(b'{"choices": [{"mess'), "not JSON"),
        (llm_server.text_instead(b""), "not JSON"),
        (llm_server.text_instead(b'{"choices": []}'), "no choices"),
        (llm_server.text_instead(b"[1, 2]"), "no choices"),
        (llm_server.text_instead(b'{"choices": ["positive"]}'), "no message"),
        (llm_server.text_instead(b'{"choices": [{"message": {"content": 7}}]}'), "no message"),
        (llm_server.text_instead(b'{"choices": [{"message": {"content": [{"type": "text"}]}}]}'), "without a text"),
        (llm_server.text_instead(b'{"error": {"message": "host is busy", "code": 503}}'), "HTTP 503.*host is busy"),
        (llm_server.half_closed, "connection failed"),
    ],
)
def test_broken_answers_are_transient(server, fault, message):
    server.misbehave(fault)
    with pytest.raises(TransientError, match=message):
        transport(server).complete(ask())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (llm_server.text_instead(b"<html>log in</html>", "text/html"), "a web page came back.*check base_url"),
        (llm_server.text_instead(b" " * 5000), "larger than 2,000 bytes"),
        (llm_server.compressed(b"{}"), "compressed"),
        (llm_server.status(307, {"Location": "http://127.0.0.1:9/steal"}), "redirects elsewhere.*not followed"),
    ],
)
def test_answers_that_will_not_get_better_are_refused_at_once(server, fault, message):
    server.misbehave(fault)
    with pytest.raises(ModelError, match=message) as caught:
        transport(server, max_response_bytes=2000).complete(ask())
    assert not isinstance(caught.value, TransientError)


def test_silence_and_dripping_both_end_at_the_time_limit(server):
    """Each goes on until the client has ended, or for ten minutes: the test would hang and not pass."""
    begun, over = threading.Event(), threading.Event()

    def silent(exchange, request):
        begun.set()
        over.wait(600)
        exchange.close_connection = True
        return True

    def dripping(exchange, request):
        begun.set()
        exchange.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not over.wait(0.05):
            try:
                exchange.wfile.write(b" ")
                exchange.wfile.flush()
            except OSError:
                break
        exchange.close_connection = True
        return True

    try:
        for fault in (silent, dripping):
            begun.clear()
            server.misbehave(fault)
            with pytest.raises(TransientError, match=r"no answer within 0\.5 s"):
                transport(server, timeout_s=0.5).complete(ask())
            assert begun.wait(60)  # a busy machine may be late with it, and the next test has no use for it
            assert not over.is_set()
    finally:
        over.set()


def test_an_endpoint_that_is_not_there_is_transient():
    with pytest.raises(TransientError, match="connection failed"):
        Transport("http://127.0.0.1:1/v1", timeout_s=1).complete(ask())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (llm_server.choice(None, "content_filter"), "content_filter"),
        (llm_server.choice(None, "stop", refusal="I will not."), "refusal"),
        (llm_server.choice([{"type": "refusal", "refusal": "no"}]), "refusal"),
        (llm_server.status(400, error={"message": "stopped", "code": "content_filter"}), "content_filter"),
    ],
)
def test_a_refusal_is_an_answer_and_not_a_failure(server, fault, reason):
    server.misbehave(fault)
    answer = transport(server).complete(ask())
    assert answer.refused
    assert answer.finish_reason == reason


@pytest.mark.parametrize("given", ["-9999", "-1" + "0" * 400])
def test_odd_log_probabilities_are_bounded_or_left_out(server, given):
    top = '[{"token": "bad", "logprob": -Infinity}, {"token": "x", "logprob": NaN}, {"token": 3, "logprob": -1}, null]'
    body = (
        '{"choices": [{"message": {"content": "good"}, "logprobs": {"content": '
        f'[{{"token": "good", "logprob": {given}, "top_logprobs": {top}}}]}}}}]}}'
    )
    server.misbehave(llm_server.text_instead(body.encode(), "text/plain"))
    answer = transport(server).complete(ask())
    assert answer.logprobs == (("good", -100.0, (("bad", -100.0),)),)


def test_halves_of_characters_are_replaced_wherever_they_come(server, tmp_path):
    entry = '{"token": "\\ud83d", "logprob": -1, "top_logprobs": [{"token": "\\udc00 good", "logprob": -2}]}'
    body = (
        f'{{"model": "m\\ud800", "choices": [{{"message": {{"content": "good \\ud83d"}}, "finish_reason": "\\udfff", '
        f'"logprobs": {{"content": [{entry}]}}}}]}}'
    )
    server.misbehave(llm_server.text_instead(body.encode()))
    answer = transport(server).complete(ask())
    assert answer.text == "good \ufffd"
    assert answer.logprobs[0].top == (("\ufffd good", -2.0),)
    repr(answer).encode("utf-8")


@pytest.mark.parametrize("count", ["1" + "0" * 20, "-5", "true", "1e3", '"7"', str(2**53)])
def test_a_count_that_can_be_none_is_left_out(server, count):
    usage = f'{{"prompt_tokens": {count}, "completion_tokens": 3}}'
    server.misbehave(
        llm_server.text_instead(f'{{"choices": [{{"message": {{"content": "x"}}}}], "usage": {usage}}}'.encode())
    )
    answer = transport(server).complete(ask())
    assert (answer.tokens_in, answer.tokens_out) == (None, 3)


@pytest.mark.parametrize("status", [200, 400])
def test_a_body_that_is_nested_without_end_is_an_error_of_ours(server, status):
    server.misbehave(answering(status, b"[" * 200_000))
    with pytest.raises(ModelError, match="not JSON" if status == 200 else "HTTP 400"):
        transport(server).complete(ask())


def test_an_answer_that_breaks_its_reader_is_transient(server):
    def breaks(*_):
        raise KeyError("odd")

    server.misbehave(llm_server.text_instead(b'{"choices": []}'))
    with pytest.raises(TransientError, match=r"cannot be read \(KeyError\)"):
        transport(server, wire=replace(CHAT_WIRE, read=breaks)).complete(ask())


@pytest.mark.parametrize(
    ("code", "error", "reason"),
    [
        (400, {"code": "context_length_exceeded", "message": "x"}, "too_long"),
        (400, {"message": "This model's maximum context length is 10 tokens."}, "too_long"),
        (400, {"message": "The input token count (9) exceeds the maximum number of tokens allowed (5)"}, "too_long"),
        (413, {"message": "Request Entity"}, "too_long"),
        (422, {"message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"}, "too_long"),
        (400, {"type": "exceed_context_size_error", "message": "x"}, "too_long"),
        (400, {"code": "content_policy_violation", "message": "x"}, "content_filter"),
        (403, {"code": "content_filter", "message": "x"}, "content_filter"),
        (400, {"message": "stopped by our content management policy"}, "content_filter"),
    ],
)
def test_an_error_about_the_one_input_is_an_answer(server, code, error, reason):
    server.misbehave(llm_server.status(code, error=error))
    answer = transport(server).complete(ask())
    assert (answer.refused, answer.finish_reason) == (True, reason)
    assert not answer.empty


@pytest.mark.parametrize("message", ["max_tokens is too large: 9", "unknown parameter: logprobs", "内容不安全"])
def test_an_error_that_may_be_about_the_input_or_all_inputs_says_so_in_the_servers_words(server, message):
    server.misbehave(llm_server.status(400, error={"message": message}))
    with pytest.raises(InputFailed, match=f"HTTP 400: {message}"):
        transport(server).complete(ask())


def test_an_input_that_is_too_long_is_not_sent_again_though_the_server_calls_it_its_own_failure(server):
    error = {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}
    server.misbehave(llm_server.status(500, error=error), times=2)
    with pytest.raises(InputFailed, match="Context size has been exceeded") as caught:
        Retry(transport(server)).complete(ask())
    assert (caught.value.too_long, server.n_requests) == (True, 1)
    server._faults.clear()


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(TransientError("HTTP 500"), InputFailed), (TransientError("HTTP 429", may_be_charged=False), ModelError)],
)
def test_what_fails_at_every_attempt_may_be_for_the_input_unless_it_was_never_worked_on(failure, kind):
    inner = Scripted(*[failure] * 9)
    with pytest.raises(ModelError, match=rf"{failure} \(given up after 3 attempts\)") as caught:
        Retry(inner, max_attempts=3, sleep=lambda seconds: None).complete(ask())
    assert (type(caught.value), inner.calls) == (kind, 3)


# --------------------------------------------------------------------------------------------------- the server's words


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, {"error": {"message": "why", "code": "c"}}, r"HTTP 400 \(c\): why"),
        (400, {"error": "why"}, "HTTP 400: why"),
        (400, {"message": "why", "type": "T"}, r"HTTP 400 \(T\): why"),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "why", "type": "t"}, {"msg": "and"}]}, "body.n: why; and"),
        (400, {"detail": "why"}, "HTTP 400: why"),
        (400, {"detail": {"error": {"message": "why"}}}, "HTTP 400: why"),
        (400, {"errors": [{"message": "why"}]}, "HTTP 400: why"),
        (400, {"errors": ["why", "and"]}, "why; and"),
        (400, [{"error": {"code": 400, "message": "why", "status": "INVALID_ARGUMENT"}}], "HTTP 400: why"),
        (400, {"Response": {"Error": {"Code": "C", "Message": "why"}}}, r"\(C\): why"),
        (400, {"error_code": 336, "error_msg": "why"}, r"\(336\): why"),
        (400, {"type": "about:blank", "title": "Bad", "detail": "why"}, ": why"),
        (400, {"odd": {"shape": "why"}}, "why"),
        (400, "plain why", "HTTP 400: plain why"),
        (401, {"error": {"message": "why"}}, "HTTP 401: why; no API key was sent"),
        (403, {"code": "denied", "error": "why"}, r"HTTP 403 \(denied\): why; where it is not for what was asked"),
        (404, {"detail": "why"}, "HTTP 404: why; check base_url"),
        (503, {"message": "why"}, "HTTP 503: why"),
        # Errors with a good status.
        (200, {"error": "why"}, "an error with HTTP 200: why"),
        (200, {"object": "error", "message": "why", "code": 404}, "HTTP 404: why"),
        (200, {"detail": "why"}, "an error with HTTP 200: why"),
        (200, [{"error": {"code": 403, "message": "why"}}], "HTTP 403: why"),
        (200, {"base_resp": {"status_code": 1004, "status_msg": "why"}}, r"HTTP 200 \(1004\): why"),
        (200, {"choices": [{"finish_reason": "error", "error": {"code": 502, "message": "why"}}]}, "HTTP 502: why"),
    ],
    ids=str,
)
def test_the_servers_words_are_in_the_error_whatever_shape_they_come_in(server, status, body, words):
    server.misbehave(answering(status, json.dumps(body).encode() if not isinstance(body, str) else body.encode()))
    with pytest.raises(ModelError, match=words):
        transport(server).complete(ask())


def test_what_a_terminal_would_obey_and_the_tags_of_a_page_do_not_come_with_the_words(server):
    server.misbehave(answering(400, json.dumps({"message": "a\x1b[31mb\n c"}).encode()))
    with pytest.raises(ModelError, match=re.escape("HTTP 400: a\\x1b[31mb c")):
        transport(server).complete(ask())
    server.misbehave(answering(403, b"<html><h1>Blocked</h1>" + b"<" * 1_000_000))
    with pytest.raises(ModelError, match="HTTP 403: Blocked <<"):
        transport(server).complete(ask())


def test_an_error_of_a_million_nested_fields_is_read_in_bounded_time(server):
    wide = {f"error{i}": {f"message{j}": {} for j in range(300)} for i in range(300)}
    server.misbehave(answering(400, json.dumps(wide).encode()))
    started = time.perf_counter()
    with pytest.raises(ModelError, match="HTTP 400"):
        transport(server).complete(ask())
    assert time.perf_counter() - started < 5


# ---------------------------------------------------------------------------------------------------- shapes of answers


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "bad"}], "bad"),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "good?"}]}, {"type": "text", "text": "bad"}],
            "bad",
        ),
        (["ba", {"text": "d"}, {"type": "image_url", "image_url": {}}], "bad"),
        ({"type": "output_text", "text": "bad"}, "bad"),
        ([], ""),
        (None, ""),
    ],
    ids=str,
)
def test_content_in_parts_is_the_text_among_them(server, content, text):
    server.misbehave(llm_server.choice(content))
    assert transport(server).complete(ask()).text == text


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", "\ufeff".encode("utf-16-le")])
def test_a_byte_order_mark_says_how_the_body_is_written_and_is_no_part_of_it(server, mark):
    body = '{"choices": [{"message": {"content": "é"}}]}'
    server.misbehave(answering(200, mark + body.encode("utf-8" if len(mark) == 3 else "utf-16-le")))
    assert transport(server).complete(ask()).text == "é"


def test_a_stream_that_nobody_asked_for_is_refused(server):
    server.misbehave(llm_server.text_instead(b'data: {"choices": []}\n\n', "text/event-stream"))
    with pytest.raises(UnusableAnswer, match="a stream of events, though that was not asked for"):
        transport(server).complete(ask())


# -------------------------------------------------------------------------------------------------------------- the key


@pytest.mark.parametrize("code", [307, 400, 401, 403, 404, 429, 500, 503])
def test_a_key_that_the_server_repeats_appears_in_no_error_log_or_traceback(server, caplog, code):
    caplog.set_level(logging.DEBUG)
    server.misbehave(llm_server.echo_of_the_key(code), times=2)
    client = Retry(transport(server, api_key=CANARY), max_attempts=2, sleep=lambda seconds: None)
    with pytest.raises(ModelError) as caught:
        client.complete(ask())
    server._faults.clear()
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(client.__dict__)
    assert CANARY not in shown
    error: BaseException | None = caught.value
    while error is not None:  # nor in what hangs on the errors without being printed
        assert CANARY not in repr(error.__dict__) + repr(error.args)
        assert type(error).__module__.startswith("fute")
        error = error.__cause__ or error.__context__


def test_a_key_that_the_server_writes_into_an_answer_is_taken_out(server):
    server.misbehave(llm_server.choice(f"your key is {CANARY}, good"))
    assert transport(server, api_key=CANARY).complete(ask()).text == "your key is [API key], good"


def test_a_key_in_escapes_is_taken_out_of_texts_tokens_names_and_errors(server):
    escaped = CANARY.replace("-", "\\u002d")
    token = f'{{"token": "{escaped}", "logprob": -1, "top_logprobs": [{{"token": "{escaped}", "logprob": -1}}]}}'
    body = (
        f'{{"model": "{escaped}", "choices": [{{"message": {{"content": "{escaped}"}}, '
        f'"finish_reason": "{escaped}", "logprobs": {{"content": [{token}]}}}}]}}'
    )
    server.misbehave(llm_server.text_instead(body.encode()))
    answer = transport(server, api_key=CANARY).complete(ask())
    assert CANARY not in repr(answer)
    assert (answer.text, answer.resolved_model, answer.finish_reason) == ("[API key]",) * 3
    assert answer.logprobs[0].top == (("[API key]", -1.0),)

    error = f'{{"error": {{"message": "{escaped}", "code": "{escaped}"}}}}'.encode()
    for code in (400, 500):
        server.misbehave(answering(code, error))
        with pytest.raises(ModelError, match=r"API key") as caught:
            transport(server, api_key=CANARY).complete(ask())
        assert CANARY not in str(caught.value)


def test_a_key_that_comes_token_by_token_takes_the_tokens_with_it(server):
    tokens = ", ".join(f'{{"token": "{part}", "logprob": -1}}' for part in (CANARY[:9], CANARY[9:]))
    body = f'{{"choices": [{{"message": {{"content": "x"}}, "logprobs": {{"content": [{tokens}]}}}}]}}'
    server.misbehave(llm_server.text_instead(body.encode()))
    assert transport(server, api_key=CANARY).complete(ask()).logprobs is None


# ---------------------------------------------------------------------------------------------------------------- retry


class Scripted:
    """An inner layer that fails as told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def complete(self, request: ChatRequest) -> Answer:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return Answer("good")


def test_transient_failures_are_tried_again_with_growing_waits():
    waits: list[float] = []
    inner = Scripted(*[TransientError("busy")] * 4)
    assert Retry(inner, sleep=waits.append, chance=lambda: 0.0).complete(ask()).text == "good"
    assert waits == [0.25, 0.5, 1.0, 2.0]


def test_other_failures_are_not_tried_again():
    for failure in (ModelError("wrong key"), KeyError("a bug")):
        inner = Scripted(failure)
        with pytest.raises(type(failure)):
            Retry(inner, sleep=lambda seconds: None).complete(ask())
        assert inner.calls == 1


def test_waits_are_spread_and_bounded_and_never_shorter_than_asked_for():
    assert seconds_before_next(1, None, 0.0) == 0.25
    assert seconds_before_next(1, None, 0.999) < 0.5
    assert seconds_before_next(30, None, 1.0) == 30.0
    assert 7.0 <= seconds_before_next(1, 7.0, 0.5) < 8.0
    assert seconds_before_next(1, 86_400.0, 0.0) == 120.0


NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT"}, 0.0),
        # The server's clock is behind ours: its own date is the one to count from.
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT", "date": "Tue, 14 Nov 2023 22:13:45 GMT"}, 5.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "34s"}, 34.0),
        ({"x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-reset-tokens": "250ms"}, 0.25),
        (
            {"x-ratelimit-reset-requests": "2h", "x-ratelimit-reset-tokens": "7s", "x-ratelimit-remaining-tokens": "0"},
            7,
        ),
        ({"anthropic-ratelimit-tokens-reset": "2023-11-14T22:13:29Z"}, 9.0),
        ({"x-ratelimit-reset": "1700000040"}, 40.0),  # seconds since 1970
        ({"x-ratelimit-reset": "1700000040000"}, 40.0),  # milliseconds
        ({"ratelimit-reset": "12"}, 12.0),
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
    ids=str,
)
def test_waits_are_read_from_headers_in_every_unit(headers, seconds):
    assert wait_asked_s(429, headers, None, NOW) == pytest.approx(seconds)


def test_when_the_limits_are_full_again_is_no_wait_for_other_failures():
    assert wait_asked_s(500, {"x-ratelimit-reset-tokens": "34s"}, None, NOW) is None
    assert wait_asked_s(500, {"retry-after": "34"}, None, NOW) == 34.0


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ([{"error": {"code": 429, "details": [{"@type": "x.RetryInfo", "retryDelay": "1m2s"}]}}], 62.0),
        ({"error": {"message": "slow down", "retry_after": 7}}, 7.0),
        ({"retryAfterMs": 250}, 0.25),
        ({"error": {"message": "Rate limit reached: limit 3, used 3. Please try again in 20.5s. See the docs."}}, 20.5),
        ({"message": "Requests exceed the rate. Please retry after 34 seconds."}, 34.0),
        ({"message": "Try again later, in 2 of 3 cases it works"}, None),
        ("wait 3 minutes", 180.0),
        ({"retry_after": None, "retry_after_s": True}, None),
    ],
    ids=str,
)
def test_waits_are_read_from_bodies(body, seconds):
    assert wait_asked_s(429, {}, body, NOW) == seconds


def test_rate_limit_waits_for_retry_after(server):
    waits: list[float] = []
    server.misbehave(llm_server.too_many_requests(retry_after="3"))
    server.misbehave(llm_server.too_many_requests())
    client = Retry(transport(server), sleep=waits.append)
    assert client.complete(ask()).text == "positive"
    assert 3.0 <= waits[0] < 4.0
    assert waits[1] <= 1.0
    assert server.n_requests == 3


# --------------------------------------------------------------------------------------------------------------- limits


def limited(server: LlmServer, most: int) -> Cache:
    return Cache(transport(server), MemoryLedger(), places_at(server.base_url, most))


def test_no_more_than_the_allowed_requests_are_in_flight_whichever_client_sends_them():
    with LlmServer(by_first_word, latency_s=0.02) as server:
        clients = [limited(server, 3) for _ in range(2)]
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda i: clients[i % 2].complete(ask(f"good {i}")), range(30)))
        assert server.most_in_flight == 3


def test_clients_of_one_service_share_its_places_and_the_smallest_number_holds(caplog):
    with LlmServer(by_first_word, latency_s=0.02) as server:
        clients = [limited(server, most) for most in (9, 2, 5)]
        with ThreadPoolExecutor(12) as pool:
            for i in range(30):
                pool.submit(clients[i % 3].complete, ask(f"good {i}"))
        assert (server.n_requests, server.most_in_flight) == (30, 2)
        assert "max_concurrency is 9 here and 2 there; 2 holds" in caplog.text
        del clients  # when all are gone, the next says anew
        assert places_at(server.base_url, 7).most == 7


def test_a_place_is_held_until_the_answer_is_kept_and_not_for_one_that_is_known():
    held: list[str] = []

    class Place:
        def __enter__(self) -> None:
            held.append("taken")

        def __exit__(self, *_: object) -> None:
            held.append("free")

    class Ledger(MemoryLedger):
        def put(self, request, answer) -> None:
            held.append("kept")
            super().put(request, answer)

    cache = Cache(Scripted(), Ledger(), Place())
    for request in (ask(), ask(), ask(temperature=1.0)):
        cache.complete(request)
    assert held == ["taken", "kept", "free"] * 2  # the second answer was known


def test_clients_of_one_service_share_its_pace_and_the_slowest_holds():
    first = local_pace("https://a.example", 600, None)
    second = local_pace("https://a.example", 60, 1200)
    assert first is second
    assert first is not local_pace("https://b.example", 600, None)
    assert local_pace("https://a.example", None, None) is None
    assert (first._s_a_request, first._s_a_token) == (1.0, 0.05)
    del first, second  # when all are gone, the next says anew
    assert local_pace("https://a.example", 600, None)._s_a_request == 0.1


# ---------------------------------------------------------------------------------------------------------------- cache


def test_the_second_time_an_answer_comes_from_the_ledger_and_says_so():
    inner = Scripted()
    cache = Cache(inner, MemoryLedger())
    assert not cache.complete(ask()).from_cache
    assert cache.complete(ask()).from_cache
    assert inner.calls == 1


def test_threads_that_want_the_same_answer_ask_once(server):
    server.latency_s = 0.05
    cache = Cache(transport(server), MemoryLedger())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: cache.complete(ask()), range(8)))
    server.latency_s = 0.0
    assert server.n_requests == 1
    assert sorted(answer.from_cache for answer in answers) == [False] + [True] * 7


class Empty:
    def __init__(self, finish_reason: str) -> None:
        self.finish_reason = finish_reason
        self.calls = 0

    def complete(self, request: ChatRequest) -> Answer:
        self.calls += 1
        return Answer("  ", finish_reason=self.finish_reason)


def test_errors_are_not_kept_and_empty_answers_are_written_down_but_not_given_again():
    ledger = MemoryLedger()
    with pytest.raises(ModelError):
        Cache(Scripted(ModelError("no")), ledger).complete(ask())
    assert len(ledger) == 0
    empty = Empty("stop")
    for _ in range(2):
        answer = Cache(empty, ledger).complete(ask())
        assert (answer.empty, answer.from_cache) == (True, False)
    assert (empty.calls, len(ledger)) == (2, 2)  # each was paid, and so each can be found
    assert ledger.get(ask().key) is None
    assert Cache(Scripted(), ledger).complete(ask()).text == "good"


def test_an_empty_answer_that_was_cut_off_is_paid_once():
    ledger, empty = MemoryLedger(), Empty("length")
    assert not Cache(empty, ledger).complete(ask()).from_cache
    assert Cache(empty, ledger).complete(ask()).from_cache
    assert empty.calls == 1


def test_a_waiting_thread_asks_itself_when_the_first_one_failed():
    ledger = MemoryLedger()
    begun = threading.Event()

    class FailsSlowly:
        def complete(self, request: ChatRequest) -> Answer:
            begun.set()
            time.sleep(0.05)
            raise ModelError("no")

    def first() -> None:
        with pytest.raises(ModelError):
            Cache(FailsSlowly(), ledger).complete(ask())

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(60)
    answer = Cache(Scripted(), ledger).complete(ask())
    thread.join()
    assert answer.text == "good"
    assert not answer.from_cache


# ---------------------------------------------------------------------------------------------------- all of the layers


def test_a_burst_of_errors_ends_and_the_requests_that_were_hit_are_answered(server, monkeypatch):
    monkeypatch.setattr("fute.llm.retry.seconds_before_next", lambda *_: 0.0)
    server.misbehave(llm_server.status(500), times=4)
    endpoint = EndpointConfig(id="e", base_url=server.base_url, model="m")
    client = connect(endpoint, ledger=MemoryLedger())
    with ThreadPoolExecutor(4) as pool:
        texts = [answer.text for answer in pool.map(lambda i: client.complete(ask(f"good {i}")), range(12))]
    assert (texts, server.n_requests) == (["positive"] * 12, 16)


def test_each_protocol_has_its_path_and_reads_its_answer(server):
    for api in ("openai_chat", "openai_completions", "anthropic"):
        endpoint = EndpointConfig(id="e", api=api, base_url=server.base_url, model="m")
        client = connect(endpoint, ledger=MemoryLedger())
        assert client.complete(ask(api=api, top_logprobs=None)).text.strip() == "positive"
    assert server.paths[-3:] == ["/v1/chat/completions", "/v1/completions", "/v1/messages"]
