"""The demo's endpoint and the stand-in behind it."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest

from examples.demo.endpoint import DemoEndpoint
from examples.demo.standin import MODEL_NAME, StandIn, read_prompt
from fute.config import EndpointConfig, PromptConfig
from fute.models.prompted import PromptedModel
from fute.types import TextTable
from tests.llm_server import LlmServer, default_answerer, shared_folder


@pytest.fixture(scope="module")
def standin() -> StandIn:
    return StandIn()


@pytest.fixture(scope="module")
def endpoint(standin: StandIn) -> Iterator[DemoEndpoint]:
    with DemoEndpoint(standin) as endpoint:
        yield endpoint


def get(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.load(response)


def post(url: str, body: bytes) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


# ------------------------------------------------------------------------------------------------------ reading prompts


@pytest.mark.parametrize(
    ("prompt", "options", "texts"),
    [
        ("Is the mood positive or negative?\nText: a, b or c?\nAnswer:", ("positive", "negative"), ("a, b or c?",)),
        (
            "Read it, then say good or bad.\nReview: two\nlines\n\nand a third",
            ("good", "bad"),
            ("two\nlines\n\nand a third",),
        ),
        ("Review: fine\nIs this review bad or good?", ("bad", "good"), ("fine",)),
        ("Is it about sports, world news or money?\nText: x", ("sports", "world news", "money"), ("x",)),
        ("Options: not spam, spam\nText: x", ("not spam", "spam"), ("x",)),
        ("Answer with one of: 'cat', \"dog\".\nText: x", ("cat", "dog"), ("x",)),
        ("Premise: p\nHypothesis: h\nDoes it follow? Answer yes, no or maybe.", ("yes", "no", "maybe"), ("p", "h")),
        ("Answer same or different.\nText: one\nSecond text: two", ("same", "different"), ("one", "two")),
        ("What do you think?\nText: x", (), ("x",)),
    ],
)
def test_options_and_texts_are_found_in_a_prompt(prompt, options, texts):
    read = read_prompt(prompt)
    assert read.options == options
    assert read.texts == texts
    assert not any(text in read.question for text in texts if len(text) > 4)


def test_the_standin_answers_by_what_the_text_is_about(standin):
    prompt = "What is this about? Options: cooking, football, astronomy\nText: {}"
    texts = ["Simmer the onions in butter.", "The keeper saved a late penalty.", "A comet passed the outer planets."]
    assert [standin(prompt.format(text))[0][0] for text in texts] == ["cooking", "football", "astronomy"]


def test_the_standin_answers_by_likeness_where_there_are_two_texts(standin):
    prompt = "Do these mean the same? Answer yes or no.\nText: {}\nSecond text: {}"
    alike = standin(prompt.format("How do I reset my password?", "How can I reset my password?"))
    unlike = standin(prompt.format("How do I reset my password?", "The soup was cold."))
    assert (alike[0][0], unlike[0][0]) == ("yes", "no")
    turned = prompt.replace("mean the same", "differ in meaning")
    assert standin(turned.format("How do I reset my password?", "The soup was cold."))[0][0] == "yes"


def test_the_standin_gives_every_option_a_probability_and_depends_on_the_wording(standin):
    text = "\nText: The waiter was rude and the food was late."
    first = standin("Is this positive or negative?" + text)
    second = standin("Was the guest happy with the evening? Options: positive, negative" + text)
    for answers in (first, second):
        assert sum(p for _, p in answers) == pytest.approx(1.0)
        assert {word for word, _ in answers} == {"positive", "negative"}
    assert dict(first)["negative"] > 0.5
    assert dict(first) != dict(second)


def test_the_standin_says_unclear_where_no_options_or_no_text_are_given(standin):
    assert standin("Write me a poem.") == [("unclear", 1.0)]
    assert standin("Good or bad?") == [("unclear", 1.0)]


def test_the_standin_gives_the_same_answer_whatever_was_asked_before(standin):
    prompt = "Is this positive or negative?\nText: A long evening with nothing to eat."
    assert standin(prompt) == StandIn()(prompt)


# --------------------------------------------------------------------------------------------------------- the endpoint


def test_the_endpoint_says_what_it_is(endpoint):
    root = endpoint.base_url.removesuffix("/v1")
    assert endpoint.base_url.startswith("http://127.0.0.1:")
    assert "no LLM" in get(f"{root}/health")["about"]
    assert [entry["id"] for entry in get(f"{endpoint.base_url}/models")["data"]] == [MODEL_NAME]
    body = json.dumps({"model": "x", "messages": [{"role": "user", "content": "yes or no?\nText: x"}]}).encode()
    status, answer = post(f"{endpoint.base_url}/chat/completions", body)
    assert status == 200
    assert answer["model"] == MODEL_NAME
    assert "no LLM" in answer["system_fingerprint"]
    assert answer["choices"][0]["logprobs"] is None


def test_the_endpoint_gives_as_many_log_probabilities_as_were_asked_for(endpoint):
    message = {"role": "user", "content": "Options: red, green, blue\nText: grass"}
    request = {"model": "x", "messages": [message], "logprobs": True, "top_logprobs": 2}
    _, answer = post(f"{endpoint.base_url}/chat/completions", json.dumps(request).encode())
    (position,) = answer["choices"][0]["logprobs"]["content"]
    assert len(position["top_logprobs"]) == 2
    assert position["token"] == answer["choices"][0]["message"]["content"]
    assert 0 < sum(math.exp(entry["logprob"]) for entry in position["top_logprobs"]) < 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"messages": 3}', "no chat request"),
        (b'{"messages": [{"role": "user"}]}', "no chat request"),
        (b'{"messages": [], "stream": true}', "streaming is not supported"),
        (b'{"messages": [], "top_logprobs": 21}', "give 0 to 20"),
    ],
)
def test_the_endpoint_refuses_what_it_does_not_understand(endpoint, body, message):
    status, answer = post(f"{endpoint.base_url}/chat/completions", body)
    assert status == 400
    assert message in answer["error"]["message"]


def test_the_endpoint_refuses_other_paths_and_large_requests(endpoint):
    assert post(f"{endpoint.base_url}/embeddings", b"{}")[0] == 404
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{endpoint.base_url}/secrets")


def test_a_prompted_model_separates_texts_through_the_endpoint(endpoint):
    prompt = PromptConfig(
        id="topic",
        template="What is this text about? Options: food, sport\nText: {{text}}",
        verbalizer={"food": ["food"], "sport": ["sport"]},
    )
    config = EndpointConfig(id="demo", base_url=endpoint.base_url, model=MODEL_NAME, service="fute-standin")
    food = ["Knead the dough and let it rise.", "Add salt to the stew.", "The bakery sells rye bread."]
    sport = ["She won the final in two sets.", "The team scored twice.", "He ran the marathon."]
    outputs = PromptedModel("m", prompt, config).outputs(TextTable(food + sport)).validate(6)
    assert outputs.details["from_logprobs"] == 6
    np.testing.assert_array_equal(outputs.values.argmax(axis=1), [0, 0, 0, 1, 1, 1])


def test_the_tests_own_server_answers_with_the_shared_network_where_it_is():
    if not (shared_folder() / "answerer").is_dir():
        pytest.skip(f"no answerer at {shared_folder()}; set FUTE_SHARED to the folder that holds answerer/")
    prompt = PromptConfig(
        id="p",
        template="Is the following review positive or negative?\n{{text}}",
        verbalizer={"negative": ["negative", "bad"], "positive": ["positive", "good"]},
    )
    texts = ["A wonderful film, I loved every minute.", "Dull, badly acted and far too long."]
    with LlmServer(default_answerer()) as server:
        config = EndpointConfig(id="e", base_url=server.base_url, model="answerer")
        outputs = PromptedModel("m", prompt, config).outputs(TextTable(texts)).validate(2)
        assert server.n_requests == 2
    np.testing.assert_array_equal(outputs.values.argmax(axis=1), [1, 0])
