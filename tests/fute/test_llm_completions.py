"""The older completions protocol, and how probable a prompt is, against a real server on loopback."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import numpy as np
import pytest

from fute.config import EndpointConfig, PromptConfig
from fute.errors import ModelError
from fute.llm.failures import TransientError
from fute.llm.openai_completions import connect
from fute.llm.perplexity import echo_request, perplexity
from fute.llm.types import Answer, ChatRequest, Message, TokenLogprobs
from fute.models.prompted import PromptedModel
from fute.types import TextTable
from tests import llm_server
from tests.llm_server import LlmServer, by_first_word, prompt_token_logprob

PROMPT = PromptConfig(
    id="p",
    system="Be brief.",
    template="Is this positive or negative?\n{{text}}",
    verbalizer={"negative": ["negative", "bad"], "positive": ["positive", "good"]},
)


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with LlmServer(by_first_word) as server:
        yield server


def endpoint(server: LlmServer, **fields: object) -> EndpointConfig:
    return EndpointConfig.model_validate(
        {"id": "e", "api": "openai_completions", "base_url": server.base_url, "model": "m", "timeout_s": 30, **fields}
    )


def model(server: LlmServer, **fields: object) -> PromptedModel:
    return PromptedModel("m1", PROMPT, endpoint(server, **fields))


def ask(text: str = "good", **fields: object) -> ChatRequest:
    return ChatRequest("s", "http://nowhere", "m", (Message("user", text),), api="openai_completions", **fields)  # type: ignore[arg-type]


def completion(**choice: object) -> llm_server.Fault:
    return llm_server.text_instead(json.dumps({"model": "m", "choices": [choice]}).encode())


def test_a_prompt_is_one_text_and_its_next_token_is_read(server):
    outputs = model(server).outputs(TextTable(["good thing", "poor thing"])).validate(2)
    np.testing.assert_allclose(outputs.values, [[0.2, 0.8], [0.8, 0.2]], atol=1e-5)
    assert outputs.details["from_logprobs"] == 2
    assert server.paths == ["/v1/completions"] * 2
    sent = next(request for request in server.requests if request["prompt"].endswith("good thing"))
    assert sent["prompt"] == "Be brief.\nIs this positive or negative?\ngood thing"
    assert (sent["logprobs"], sent["frequency_penalty"], sent["presence_penalty"]) == (5, 0, 0)


def test_the_same_words_through_another_protocol_are_another_question_and_another_model(server):
    chat = endpoint(server, api="openai_chat")
    assert ask().key != ChatRequest("s", "http://nowhere", "m", (Message("user", "good"),)).key
    assert model(server).fingerprint != PromptedModel("m1", PROMPT, chat).fingerprint


def test_more_log_probabilities_can_be_asked_for_where_a_server_gives_them(server):
    request = model(server, parameters={"logprobs": 20, "presence_penalty": None}).request("good")
    server.misbehave(completion(text=" positive", logprobs=None, finish_reason="stop"))
    connect(endpoint(server), None).complete(request)
    assert server.requests[0]["logprobs"] == 20
    assert "presence_penalty" not in server.requests[0]


def test_the_perplexity_of_a_prompt_is_that_of_its_tokens_from_the_second_on(server):
    values = model(server).perplexities(TextTable(["good thing", "a"]))
    for value, text in zip(values, ["good thing", "a"], strict=True):
        tokens = [" brief.", "\nIs", " this", " positive", " or", " negative?", "\ngood" if "g" in text else "\na"]
        tokens += [" thing"] if "g" in text else []
        expected = math.exp(-np.mean([prompt_token_logprob(token) for token in tokens]))
        assert value == pytest.approx(expected, rel=1e-5)
    assert all(request["echo"] and request["max_tokens"] == 0 for request in server.requests)


@pytest.mark.parametrize("offsets", [{}, {"text_offset": [0, 1, 3]}, {"text_offset": [0]}])
def test_what_a_server_generates_beside_the_echo_is_left_out(server, offsets):
    logprobs = {"tokens": ["a", " b", " more"], "token_logprobs": [None, -1.0, -9.0], "top_logprobs": None, **offsets}
    server.misbehave(completion(text="a b more", logprobs=logprobs, finish_reason="length"))
    answer = connect(endpoint(server), None).complete(echo_request(ask("a b")))
    assert answer.text == "a b"
    assert perplexity(answer) == pytest.approx(math.e)


@pytest.mark.parametrize("logprobs", [None, {"tokens": [" positive"], "token_logprobs": [-0.1]}])
def test_a_server_that_does_not_echo_is_told_apart(server, logprobs):
    server.misbehave(completion(text=" positive", logprobs=logprobs, finish_reason="stop"))
    with pytest.raises(ModelError, match="does not echo the prompt") as caught:
        connect(endpoint(server), None).complete(echo_request(ask("Is it good?")))
    assert not isinstance(caught.value, TransientError)


def test_a_chat_endpoint_has_no_perplexity_and_says_which_do(server):
    chat = PromptedModel("m1", PROMPT, endpoint(server, api="openai_chat"))
    with pytest.raises(ModelError, match=r"openai_chat does not tell .* use one of: openai_completions, local"):
        chat.perplexities(TextTable(["a"]))
    assert server.n_requests == 0


def test_a_prompt_of_one_token_has_no_perplexity():
    with pytest.raises(ModelError, match="one token"):
        perplexity(Answer("a", (TokenLogprobs("a", 0.0, (("a", 0.0),)),)))


@pytest.mark.parametrize(
    ("body", "message"),
    [(b'{"choices": []}', "no choices"), (b'{"choices": [{"text": 3}]}', "no text"), (b'{"choices": [7]}', "no text")],
)
def test_broken_completions_are_transient(server, body, message):
    server.misbehave(llm_server.text_instead(body))
    with pytest.raises(TransientError, match=message):
        connect(endpoint(server), None).complete(ask())


def test_odd_log_probabilities_are_left_out_and_the_text_is_read(server):
    odd = {"tokens": ["x", "good"], "token_logprobs": [-0.1, "many"], "top_logprobs": [{"x": None}, None]}
    server.misbehave(completion(text=" good", logprobs=odd, finish_reason="stop"))
    answer = connect(endpoint(server), None).complete(ask())
    assert (answer.text, answer.logprobs) == (" good", None)


def test_tokens_that_are_written_as_bytes_are_placed_by_the_servers_offsets(server):
    tokens = ["a", "bytes:\\xe2\\x82", "bytes:\\xac", " more"]
    logprobs = {"tokens": tokens, "token_logprobs": [None, -1.0, -3.0, -9.0], "text_offset": [0, 1, 1, 2]}
    server.misbehave(completion(text="a€ more", logprobs=logprobs, finish_reason="length"))
    answer = connect(endpoint(server), None).complete(echo_request(ask("a€")))
    assert perplexity(answer) == pytest.approx(math.exp(2))
