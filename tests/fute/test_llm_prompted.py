"""A prompted model against a real server on loopback."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from fute.config import EndpointConfig, PromptConfig
from fute.errors import ConfigError, ModelError, OutputsError
from fute.llm.cache import MemoryLedger
from fute.llm.types import Answer, ChatRequest
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.models import prompted_count
from fute.models.prompted import PromptedModel, TextEmbedding, missing_calls
from fute.models.text_axes import on_leading_axes
from fute.types import Pool, TextTable
from tests import llm_server
from tests.llm_server import LlmServer, by_first_word

CANARY = "sk-canary-0123456789abcdef"
PROMPT = PromptConfig(
    id="p",
    template="Is this positive or negative?\n{{text}}",
    verbalizer={"negative": ["negative", "bad"], "positive": ["positive", "good"]},
)
TEXTS = [f"{'good' if i % 3 == 0 else 'poor'} thing number {i}" for i in range(30)]


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with LlmServer(by_first_word) as server:
        yield server


def endpoint(base_url: str, **fields) -> EndpointConfig:
    return EndpointConfig(id="e", base_url=base_url, model="m", **{"timeout_s": 30.0, **fields})


def model(server: LlmServer, prompt: PromptConfig = PROMPT, *, api_key: str | None = None, **options) -> PromptedModel:
    fields = {name: options.pop(name) for name in ("logprobs", "max_attempts", "max_concurrency") if name in options}
    return PromptedModel("m1", prompt, endpoint(server.base_url, **fields), api_key=api_key, **options)


def test_outputs_hold_the_probabilities_of_the_labels_in_the_order_of_inputs_and_verbalizer(server):
    outputs = model(server).outputs(TextTable(TEXTS)).validate(30)
    assert outputs.kind == "probabilities"
    assert outputs.label_names == ("negative", "positive")
    expected = [[0.2, 0.8] if i % 3 == 0 else [0.8, 0.2] for i in range(30)]
    np.testing.assert_allclose(outputs.values, expected, atol=1e-5)
    assert outputs.answered is not None
    assert outputs.answered.all()


def test_outputs_do_not_depend_on_the_number_of_requests_in_flight(server):
    table = TextTable(TEXTS)
    alone = model(server, max_concurrency=1).outputs(table)
    many = model(server, max_concurrency=16).outputs(table)
    assert alone.fingerprint == many.fingerprint


def test_details_count_calls_tokens_and_what_the_answers_were_read_from(server):
    ledger = MemoryLedger()
    table = TextTable([*TEXTS, TEXTS[0]])
    first = model(server, ledger=ledger).outputs(table).details
    assert (first["calls"], first["cached"]) == (30, 1)
    assert first["tokens_in"] == 30 * 9
    assert first["tokens_out"] == 30
    assert first["from_logprobs"] == 31
    assert first["resolved_models"] == ["test-model"]
    assert first["latency_ms"] > 0
    second = model(server, ledger=ledger).outputs(table).details
    assert (second["calls"], second["cached"], second["tokens_in"]) == (0, 31, 0)
    assert server.n_requests == 30


def test_answers_without_log_probabilities_are_read_as_text(server):
    outputs = model(server, logprobs=False).outputs(TextTable(TEXTS))
    assert outputs.details["from_text"] == 30
    np.testing.assert_array_equal(outputs.values[0], [0.0, 1.0])


def test_refusals_empty_and_unparsable_answers_are_counted_and_leave_their_rows_unanswered(server):
    server.misbehave(llm_server.choice(None, "content_filter"))
    server.misbehave(llm_server.choice("Well, it depends."))
    server.misbehave(llm_server.choice(""))
    outputs = model(server, max_concurrency=1).outputs(TextTable(TEXTS))
    assert [outputs.details[name] for name in ("refusals", "unparsable", "empty")] == [1, 1, 1]
    assert outputs.answered is not None
    np.testing.assert_array_equal(outputs.answered, [False] * 3 + [True] * 27)
    np.testing.assert_array_equal(outputs.values[:3], 0)
    outputs.validate(30)


def test_the_system_text_and_the_prompt_are_sent_as_messages(server):
    model(server, PROMPT.model_copy(update={"system": "Be brief."})).outputs(TextTable(["good"]))
    assert server.requests[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is this positive or negative?\ngood"},
    ]


def test_foreign_text_with_placeholders_is_sent_as_it_is(server):
    model(server).outputs(TextTable(["{{text}} {{secret.__class__}}"]))
    assert server.requests[0]["messages"][0]["content"].endswith("\n{{text}} {{secret.__class__}}")


# ---------------------------------------------------------------------------------------------------------------- pairs


PAIRS = PROMPT.model_copy(update={"template": "{{premise}}\n{{hypothesis}}"})


def test_a_prompt_for_pairs_is_asked_about_pairs_only_and_says_so(server):
    outputs = model(server, PAIRS).outputs(TextTable(["a", "b", "c"], ["good", None, "good"]))
    assert server.asked == {"a\ngood": 1, "c\ngood": 1}
    assert outputs.answered is not None
    assert outputs.answered.tolist() == [True, False, True]
    assert outputs.details["without_pair"] == 1


@pytest.mark.parametrize("pairs", [None, [None, None]])
def test_a_prompt_for_pairs_on_single_texts_only_is_refused_before_any_call(server, pairs):
    with pytest.raises(ModelError, match="wants a second text, but only 0 of the 2 inputs have one"):
        model(server, PAIRS).outputs(TextTable(["a", "b"], pairs))
    assert server.n_requests == 0


def test_a_prompt_for_one_text_reads_the_first_of_a_pair(server):
    model(server).outputs(TextTable(["a"], ["b"]))
    assert list(server.asked) == ["Is this positive or negative?\na"]


# ------------------------------------------------------------------------------------------------------------- identity


def test_the_fingerprint_depends_on_all_that_can_change_an_answer():
    base = endpoint("http://127.0.0.1:1/v1")
    variants = [
        (PROMPT, base, {}),
        (PROMPT.model_copy(update={"template": "{{text}}!"}), base, {}),
        (PROMPT.model_copy(update={"system": "x"}), base, {}),
        (PROMPT.model_copy(update={"verbalizer": {"negative": ["bad"], "positive": ["good"]}}), base, {}),
        (PROMPT.model_copy(update={"verbalizer": dict(reversed(PROMPT.verbalizer.items()))}), base, {}),
        (PROMPT, base.model_copy(update={"model": "other"}), {}),
        (PROMPT, base.model_copy(update={"base_url": "http://127.0.0.1:2/v1"}), {}),
        (PROMPT, base.model_copy(update={"service": "s"}), {}),
        (PROMPT, base.model_copy(update={"logprobs": False}), {}),
        (PROMPT, base, {"temperature": 0.7}),
        (PROMPT, base, {"max_answer_tokens": 9}),
    ]
    prints = {PromptedModel("m", prompt, at, **options).fingerprint for prompt, at, options in variants}
    assert len(prints) == len(variants)


def test_the_fingerprint_does_not_depend_on_names_keys_or_how_it_is_asked():
    base = endpoint("http://127.0.0.1:1/v1")
    first = PromptedModel("a", PROMPT, base, api_key="one")
    renamed = PROMPT.model_copy(update={"id": "q", "task": "t"})
    faster = base.model_copy(update={"id": "f", "max_concurrency": 99, "timeout_s": 9.0, "api_key_env": "K"})
    assert first.fingerprint == PromptedModel("b", renamed, faster, api_key="two").fingerprint
    moved = (
        base.model_copy(update={"service": "s"}),
        base.model_copy(update={"service": "s", "base_url": "http://h/v1"}),
    )
    assert len({PromptedModel("a", PROMPT, at).fingerprint for at in moved}) == 1


def test_a_prompt_that_cannot_work_is_refused_on_construction():
    with pytest.raises(ConfigError, match="prompt p"):
        PromptedModel("m", PROMPT.model_copy(update={"template": "{{nothing}}"}), endpoint("http://127.0.0.1:1/v1"))


# ------------------------------------------------------------------------------------------------------------- failures


def test_a_request_that_fails_for_good_stops_the_run_and_the_next_run_goes_on_from_there(server):
    ledger = MemoryLedger()
    server.misbehave(lambda exchange, request: False, times=10)
    server.misbehave(llm_server.status(402))
    with pytest.raises(ModelError, match=r"m1: .*HTTP 402.* 10 of 30 answers came and are kept, the next run asks for"):
        model(server, ledger=ledger, max_concurrency=1).outputs(TextTable(TEXTS))
    assert server.n_requests == 11
    assert missing_calls(model(server), TextTable(TEXTS), ledger) == 20
    outputs = model(server, ledger=ledger).outputs(TextTable(TEXTS))
    assert (outputs.details["calls"], outputs.details["cached"]) == (20, 10)
    assert max(server.asked.values()) == 2  # the failed one


def test_an_input_that_is_too_long_has_no_answer_and_is_not_asked_about_again(server):
    ledger = MemoryLedger()
    server.misbehave(llm_server.status(400, error={"message": "too long", "code": "context_length_exceeded"}), times=2)
    server.misbehave(llm_server.status(400, error={"message": "no", "code": "content_policy_violation"}))
    outputs = model(server, ledger=ledger, max_concurrency=1).outputs(TextTable(TEXTS))
    assert [outputs.details[name] for name in ("too_long", "refusals", "from_logprobs")] == [2, 1, 27]
    np.testing.assert_array_equal(outputs.answered, [False] * 3 + [True] * 27)
    again = model(server, ledger=ledger).outputs(TextTable(TEXTS))
    assert (again.details["calls"], again.details["too_long"]) == (0, 2)
    assert server.n_requests == 30


def test_when_most_inputs_are_turned_away_the_run_stops_and_says_with_what(server):
    error = {"message": "prompt is too long", "code": "context_length_exceeded"}
    server.misbehave(llm_server.status(400, error=error), times=30)
    with pytest.raises(ModelError, match=r"16 of 30 inputs were turned away with: HTTP 400: prompt is too long"):
        model(server, max_concurrency=1).outputs(TextTable(TEXTS))
    assert server.n_requests == 16
    server._faults.clear()


def test_of_a_few_inputs_of_many_half_may_be_turned_away(server):
    few = TextTable(TEXTS[:3])
    too_long = llm_server.status(400, error={"message": "too long", "code": "context_length_exceeded"})
    server.misbehave(too_long, times=2)
    outputs = model(server, max_concurrency=1).outputs(few, part_of=30)
    np.testing.assert_array_equal(outputs.answered, [False, False, True])
    server.misbehave(too_long, times=2)
    with pytest.raises(ModelError, match="2 of 3 inputs were turned away"):
        model(server, max_concurrency=1).outputs(few)


def failing(server: LlmServer, status: int, *, when: Callable[[str], bool], body: Any = None) -> None:
    """From now on the server fails at these prompts, however often it is asked."""

    def fault(exchange, request):
        if not when(request["messages"][-1]["content"]):
            return False
        exchange.reply(status, {"error": {"message": "not this one"}} if body is None else body)
        return True

    server.misbehave(fault, times=10_000)


@pytest.mark.parametrize("place", [0, 7, 29])
@pytest.mark.parametrize("status", [400, 403, 413, 418, 422, 451, 500, 502])
def test_one_input_that_fails_among_others_is_counted_and_ends_nothing(server, monkeypatch, caplog, status, place):
    monkeypatch.setattr("fute.llm.retry.seconds_before_next", lambda *_: 0.001)
    failing(server, status, when=lambda prompt: prompt.endswith(TEXTS[place]))
    outputs = model(server, max_attempts=2, api_key=CANARY).outputs(TextTable(TEXTS))
    assert np.flatnonzero(~outputs.answered).tolist() == [place]
    outputs.validate(30)
    counted = outputs.details["too_long" if status == 413 else "failed"]
    assert (counted, outputs.details["from_logprobs"]) == (1, 29)
    assert f"HTTP {status}: not this one" in outputs.details["server_said"][0]
    if status != 413:
        assert "1 of 30 inputs have no answer: 1 failed; the server said:" in caplog.text
    # One attempt for what the server refused; of what may pass, all attempts twice.
    assert server.asked[f"Is this positive or negative?\n{TEXTS[place]}"] == (4 if status >= 500 else 1)


def test_an_answer_that_breaks_off_or_is_too_large_for_one_input_ends_nothing(server, monkeypatch):
    monkeypatch.setattr("fute.llm.retry.seconds_before_next", lambda *_: 0.001)

    def odd(exchange, request):
        prompt = request["messages"][-1]["content"]
        if prompt.endswith(TEXTS[3]):
            return llm_server.half_closed(exchange, request)
        return prompt.endswith(TEXTS[8]) and llm_server.text_instead(b" " * 5_000_000)(exchange, request)

    server.misbehave(odd, times=100)
    outputs = model(server, max_attempts=2).outputs(TextTable(TEXTS))
    assert np.flatnonzero(~outputs.answered).tolist() == [3, 8]
    assert outputs.details["failed"] == 2


@pytest.mark.parametrize("body", [{"error": {"message": "no"}}, {"detail": "no"}, {"error": "no"}], ids=str)
@pytest.mark.parametrize("status", [400, 403, 422, 500])
def test_when_the_first_many_inputs_all_fail_the_endpoint_is_at_fault(server, monkeypatch, status, body):
    monkeypatch.setattr("fute.llm.retry.seconds_before_next", lambda *_: 0.001)
    failing(server, status, when=lambda prompt: True, body=body)
    with pytest.raises(ModelError, match=rf"m1: 10 inputs in a row failed.*HTTP {status}: no.* 0 of 30 answers came"):
        model(server, max_concurrency=1, max_attempts=1).outputs(TextTable(TEXTS))
    assert server.n_requests == 10
    with pytest.raises(ModelError, match="of 3 inputs were turned away with|inputs in a row failed, the last one with"):
        model(server, max_attempts=1).outputs(TextTable(TEXTS[:3]))


def test_a_source_of_which_every_text_fails_is_not_taken_for_the_endpoint(server):
    failing(server, 400, when=lambda prompt: int(prompt.split()[-1]) < 15)
    texts = [f"thing {i}" for i in range(100)]
    outputs = model(server, max_concurrency=1).outputs(TextTable(texts))
    assert np.flatnonzero(~outputs.answered).tolist() == list(range(15))


def test_many_in_flight_may_fail_before_the_first_answer_is_back():
    def slow(prompt: str, system: str | None) -> list[tuple[str, float]]:
        time.sleep(0.2)
        return by_first_word(prompt, system)

    with LlmServer(slow) as server:
        failing(server, 400, when=lambda prompt: int(prompt.split()[-1]) % 4 == 0)
        texts = [f"thing {i}" for i in range(160)]
        outputs = model(server, max_concurrency=64).outputs(TextTable(texts))
        assert outputs.details["failed"] == 40


def test_a_server_that_comes_back_is_asked_again_about_what_failed_meanwhile(server, monkeypatch):
    monkeypatch.setattr("fute.llm.retry.seconds_before_next", lambda *_: 0.001)
    server.misbehave(lambda exchange, request: False, times=12)
    server.misbehave(llm_server.status(503), times=8)
    outputs = model(server, max_concurrency=1, max_attempts=2).outputs(TextTable(TEXTS))
    assert outputs.answered.all()
    assert outputs.details["failed"] == 0


def test_an_outage_in_the_middle_ends_the_run_and_keeps_what_came(server):
    ledger = MemoryLedger()
    server.misbehave(lambda exchange, request: False, times=12)
    server.misbehave(llm_server.status(502), times=18)
    with pytest.raises(ModelError, match="10 inputs in a row failed.*12 of 30 answers came and are kept"):
        model(server, ledger=ledger, max_concurrency=1, max_attempts=1).outputs(TextTable(TEXTS))
    server._faults.clear()
    assert model(server, ledger=ledger).outputs(TextTable(TEXTS)).answered.all()


@pytest.mark.parametrize("status", [401, 402, 404, 429])
def test_what_no_input_changes_ends_the_run_at_once(server, monkeypatch, status):
    server.misbehave(lambda exchange, request: False, times=12)
    failing(server, status, when=lambda prompt: True)
    with pytest.raises(ModelError, match=rf"HTTP {status}.*not this one"):
        model(server, max_concurrency=1, max_attempts=1).outputs(TextTable(TEXTS))
    assert server.n_requests == 13


def test_inputs_that_failed_are_asked_about_again_by_the_next_run_and_do_not_end_it(server):
    ledger = MemoryLedger()
    failing(server, 403, when=lambda prompt: int(prompt.split()[-1]) % 5 == 0)
    for calls in (30, 6):
        server.asked.clear()
        outputs = model(server, ledger=ledger).outputs(TextTable(TEXTS))
        assert (outputs.details["failed"], server.n_requests) == (6, calls)


# ----------------------------------------------------------------------------------------------------- constant answers


def always_positive(prompt: str, system: str | None) -> list[tuple[str, float]]:
    return [("positive", 1.0)]


def test_a_constant_model_is_told_with_its_answer_before_all_is_paid():
    texts = TextTable([f"thing {i}" for i in range(200)])
    with LlmServer(always_positive) as server:
        with pytest.raises(
            ModelError,
            match=r"first 100 answers.*same \('positive'\).*--go-on.*the other 100 inputs.* 100 of 200 answers",
        ):
            model(server, stop_if_constant=True, logprobs=False, max_concurrency=1).outputs(texts)
        assert server.n_requests == 100
        outputs = model(server, logprobs=False).outputs(texts)
        assert server.n_requests == 300
    with pytest.raises(OutputsError, match=r"same for every input \('positive'\): a constant model"):
        outputs.validate(200)


def test_a_label_that_stands_in_one_source_only_is_found_before_the_model_counts_as_constant():
    def rare(prompt: str, system: str | None) -> list[tuple[str, float]]:
        return [("negative" if int(prompt.split()[-1]) > 180 else "positive", 1.0)]

    texts = TextTable([f"thing {i}" for i in range(200)])
    with LlmServer(rare) as server:
        outputs = model(server, stop_if_constant=True, logprobs=False, max_concurrency=1).outputs(texts)
    assert outputs.values[:, 0].sum() == 19


def test_equal_free_texts_are_constant_too(server):
    texts = TextTable([f"thing {i}" for i in range(150)])
    with LlmServer(always_positive) as constant, pytest.raises(ModelError, match="the same .'positive'"):
        model(constant, SUMMARY, embedding=embedding(), stop_if_constant=True, logprobs=False).outputs(texts)


def test_some_of_many_inputs_may_well_have_one_answer():
    texts = TextTable([f"thing {i}" for i in range(150)])
    with LlmServer(always_positive) as server:
        asked = model(server, stop_if_constant=True, logprobs=False)
        assert asked.outputs(texts, part_of=1000).answered.all()


def test_how_far_asking_has_come_is_said_now_and_then(caplog, monkeypatch):
    class Answers:
        def complete(self, request: ChatRequest) -> Answer:
            return Answer("good")

    monkeypatch.setattr(prompted_count, "SAY_EVERY_S", 0.0)
    caplog.set_level("INFO", logger="fute")
    PromptedModel("m1", PROMPT, endpoint("http://127.0.0.1:1/v1"), completer=Answers()).outputs(TextTable(TEXTS))
    assert f"m1: 1 of {len(TEXTS)} inputs asked" in caplog.messages


def test_prompts_that_were_cut_are_counted_and_told(caplog):
    class Cuts:
        def complete(self, request: ChatRequest) -> Answer:
            return Answer("good", prompt_cut=request.messages[-1].content.endswith("1"))

    at = endpoint("http://127.0.0.1:1/v1")
    outputs = PromptedModel("m1", PROMPT, at, completer=Cuts()).outputs(TextTable(TEXTS))
    assert outputs.details["prompts_cut"] == 3
    assert "m1: 3 prompts did not fit into the model and were cut in their middle" in caplog.text


def test_requests_in_flight_are_finished_and_kept_when_another_fails():
    class OneFails:
        """Fails at once on the third request, when the others are in flight and wait for it."""

        def __init__(self, ledger: MemoryLedger) -> None:
            self.ledger = ledger
            self.failed = threading.Event()
            self.begun = threading.Barrier(4)

        def complete(self, request: ChatRequest) -> Answer:
            self.begun.wait(60)
            if request.messages[-1].content.endswith(TEXTS[2]):
                self.failed.set()
                raise ModelError("no such model")
            self.failed.wait(60)
            self.ledger.put(request, Answer("good"))
            return Answer("good")

    ledger = MemoryLedger()
    asked = PromptedModel(
        "m1", PROMPT, endpoint("http://127.0.0.1:1/v1", max_concurrency=4), completer=OneFails(ledger)
    )
    with pytest.raises(ModelError, match="no such model"):
        asked.outputs(TextTable(TEXTS))
    assert len(ledger) == 3


def test_transient_failures_in_the_middle_of_a_run_change_nothing(server, monkeypatch):
    monkeypatch.setattr("fute.llm.retry.seconds_before_next", lambda *_: 0.001)
    calm = model(server).outputs(TextTable(TEXTS))
    server.misbehave(llm_server.too_many_requests(), times=5)
    server.misbehave(llm_server.status(500), times=5)
    server.misbehave(llm_server.text_instead(b"{"), times=3)
    server.misbehave(llm_server.half_closed, times=3)
    stormy = model(server, max_attempts=20).outputs(TextTable(TEXTS))
    assert stormy.fingerprint == calm.fingerprint
    assert server.n_requests == 30 + 30 + 16


def test_a_bug_or_a_full_disk_is_raised_as_it_is():
    class Broken:
        def complete(self, request: ChatRequest) -> Answer:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        PromptedModel("m1", PROMPT, endpoint("http://127.0.0.1:1/v1"), completer=Broken()).outputs(TextTable(TEXTS))


def test_no_inputs_are_no_calls(server):
    assert model(server).outputs(TextTable([])).values.shape == (0, 2)
    assert server.n_requests == 0


def test_missing_calls_counts_distinct_requests_without_asking_any(server):
    ledger = MemoryLedger()
    table = TextTable(["one good", "two", "one good"])
    assert missing_calls(model(server), table, ledger) == 2
    model(server, ledger=ledger).outputs(TextTable(["two"]))
    assert missing_calls(model(server), table, ledger) == 1
    assert server.n_requests == 1


@pytest.mark.parametrize("code", [400, 401, 403, 404, 429, 500])
def test_a_key_never_shows_in_what_a_failed_run_leaves_behind(server, caplog, monkeypatch, code):
    monkeypatch.setattr("fute.llm.retry.seconds_before_next", lambda *_: 0.001)
    caplog.set_level(logging.DEBUG)
    server.misbehave(llm_server.echo_of_the_key(code), times=100)
    asked = model(server, api_key=CANARY, max_attempts=2)
    with pytest.raises(ModelError) as caught:
        asked.outputs(TextTable(TEXTS))
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(asked) + repr(asked.__dict__)
    assert server.headers[0]["authorization"] == f"Bearer {CANARY}"
    assert CANARY not in shown


# ------------------------------------------------------------------------------------------------ reasoning and samples


REASONED = PROMPT.model_copy(update={"cot": True, "follow_up": "Now say positive or negative:\ngood"})


def test_reasoning_is_asked_for_first_and_stands_before_the_question_for_the_answer(server):
    server.misbehave(llm_server.choice("It praises a lot."))
    outputs = model(server, REASONED, max_concurrency=1, max_reasoning_tokens=99).outputs(TextTable(["a", "b"]))
    reasoning, answer = server.requests[0], server.requests[1]
    assert [m["content"] for m in reasoning["messages"]] == ["Is this positive or negative?\na"]
    assert (reasoning["max_tokens"], "logprobs" in reasoning) == (99, False)
    assert [(m["role"], m["content"]) for m in answer["messages"]] == [
        ("user", "Is this positive or negative?\na"),
        ("assistant", "It praises a lot."),
        ("user", "Now say positive or negative:\ngood"),
    ]
    assert (answer["max_tokens"], answer["logprobs"]) == (8, True)
    assert (outputs.details["calls"], outputs.details["from_logprobs"]) == (4, 2)


def test_without_reasoning_to_go_on_from_there_is_no_second_question_and_no_answer(server):
    server.misbehave(llm_server.choice("I'm sorry, but I can't help with that."))
    server.misbehave(llm_server.choice(None, "content_filter"))
    server.misbehave(llm_server.choice("<think> and so on", "length"))
    outputs = model(server, REASONED, max_concurrency=1).outputs(TextTable(["a", "b", "c", "d"]))
    assert server.n_requests == 5
    assert [outputs.details[name] for name in ("refusals", "empty", "cut_short")] == [2, 1, 1]
    assert outputs.answered is not None
    assert outputs.answered.tolist() == [False, False, False, True]


def test_the_usual_question_after_reasoning_names_the_words(server):
    model(server, REASONED.model_copy(update={"follow_up": None})).outputs(TextTable(["a"]))
    assert "one of these words only: negative, positive." in server.requests[1]["messages"][-1]["content"]


def test_the_calls_of_reasoning_are_foreseen_and_paid_once(server):
    ledger, table = MemoryLedger(), TextTable(["a", "b", "a"])
    asked = model(server, REASONED, ledger=ledger)
    assert missing_calls(asked, table, ledger) == 4
    asked.outputs(table)
    assert server.n_requests == 4
    assert missing_calls(asked, table, ledger) == 0
    assert model(server, REASONED, ledger=ledger).outputs(table).details["calls"] == 0
    assert server.n_requests == 4


def test_samples_are_asked_for_one_by_one_and_become_shares(server):
    ledger, table = MemoryLedger(), TextTable(["good"])
    asked = model(server, ledger=ledger, temperature=1.0, samples=20, max_concurrency=1)
    assert missing_calls(asked, table, ledger) == 20
    outputs = asked.outputs(table)
    assert server.n_requests == 20
    assert outputs.details["from_samples"] == 1
    texts = [answer.text for answer in ledger._answers.values()]
    positive = texts.count("positive")
    assert 0 < positive < 20
    np.testing.assert_allclose(outputs.values[0], [(20 - positive + 0.5) / 21, (positive + 0.5) / 21], rtol=1e-5)
    again = model(server, ledger=ledger, temperature=1.0, samples=20).outputs(table)
    assert again.fingerprint == outputs.fingerprint
    model(server, ledger=ledger, temperature=1.0, samples=25).outputs(table)
    assert server.n_requests == 25


def test_outputs_name_the_answers_that_they_came_from(server):
    server.misbehave(llm_server.choice(""))
    server.misbehave(llm_server.choice(None, "content_filter"))
    ledger, pairs = MemoryLedger(), TextTable(["a", "b", "c", "d"], ["good", "poor", None, "good"])
    asked = model(server, PAIRS, ledger=ledger, max_concurrency=1)
    first, again = asked.outputs(pairs), asked.outputs(pairs)
    keys = [request.key for _, request in asked.requests(pairs)]
    answers = {key: answer.text for key, answer in ledger._answers.items()}
    # The silence is kept under a number of its own, to be asked again; there it was paid for.
    assert len(first.answer_keys[0]) == 1
    assert first.answer_keys[0] != (keys[0],)
    assert answers[first.answer_keys[0][0]] == ""
    assert list(first.answer_keys[1:]) == [(keys[1],), (), (keys[2],)]  # a refusal, none, an answer
    assert list(again.answer_keys) == [(keys[0],), (keys[1],), (), (keys[2],)]
    assert list(again.take(np.array([3, 0])).answer_keys) == [(keys[2],), (keys[0],)]

    ((reasoning, answer),) = model(server, REASONED, ledger=ledger).outputs(TextTable(["a"])).answer_keys
    assert server.requests[-1]["messages"][1]["content"] == ledger._answers[reasoning].text
    assert answer in ledger._answers.keys() - {reasoning}

    (samples,) = model(server, ledger=ledger, temperature=1.0, samples=5).outputs(TextTable(["good"])).answer_keys
    assert len(set(samples)) == 5
    assert ledger._answers.keys() > set(samples)


def test_samples_at_temperature_zero_are_refused(server):
    with pytest.raises(ConfigError, match="samples is 3 at temperature 0, where all answers are the same"):
        model(server, samples=3)


# ------------------------------------------------------------------------------------------------------------ free text


SUMMARY = PromptConfig(id="s", template="Rewrite this.\n{{text}}", answer="text")


def embedding(width: int = 3) -> TextEmbedding:
    def features(table: TextTable) -> np.ndarray:
        return np.array([[len(text), text.count("o"), text.count("e")][:width] for text in table.texts], np.float32)

    return TextEmbedding(features, {"made_of": "letters", "width": width})


def test_free_text_becomes_embeddings_and_refusals_of_it_have_none(server):
    server.misbehave(llm_server.choice("I cannot assist with that."))
    server.misbehave(llm_server.choice(" <think>x</think> one two\n"))
    outputs = model(server, SUMMARY, embedding=embedding(), max_concurrency=1, logprobs=False).outputs(
        TextTable(["a", "b", "good", "poor"])
    )
    outputs.validate(4)
    assert (outputs.kind, outputs.label_names) == ("embeddings", None)
    assert outputs.answered is not None
    assert outputs.answered.tolist() == [False, True, True, True]
    # The texts are "one two", "positive" and "negative".
    np.testing.assert_array_equal(outputs.values, [[0, 0, 0], [7, 2, 1], [8, 1, 1], [8, 0, 2]])
    assert (outputs.details["refusals"], outputs.details["from_text"]) == (1, 3)


def test_free_text_is_embedded_with_crosscov_like_any_other_outputs(server):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["good", "poor", "oe", "eee", "ooo"], 4)) for _ in range(60)]
    table = TextTable(texts)

    def echo(prompt: str, system: str | None) -> list[tuple[str, float]]:
        return [(prompt.partition("\n")[2][::-1], 1.0)]

    def letters(t: TextTable) -> np.ndarray:
        return np.array([[text.count(c) for c in "goepr "] + [len(text)] for text in t.texts], np.float32)

    with LlmServer(echo) as backwards:
        outputs = model(backwards, SUMMARY, embedding=TextEmbedding(letters, {"made_of": "letters"})).outputs(table)
    embedder = Crosscov(CrosscovConfig(components=4), letters, Pool(table, ["p"] * 60))
    vector = embedder.model(outputs.validate(60)).vector
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_wide_embeddings_of_free_text_keep_their_inner_products_on_fewer_axes():
    rng = np.random.default_rng(3)
    wide = (rng.normal(size=(80, 5)) @ rng.normal(size=(5, 300)) + 2.0).astype(np.float32)
    narrow = on_leading_axes(wide, 20)
    assert narrow.shape == (80, 20)
    centred = wide - wide.mean(axis=0)
    np.testing.assert_allclose(narrow @ narrow.T, centred @ centred.T, atol=1e-2)
    np.testing.assert_array_equal(on_leading_axes(wide, 20), narrow)
    np.testing.assert_array_equal(on_leading_axes(wide[:, :20], 20), wide[:, :20])


def test_free_text_needs_an_embedding_and_takes_no_samples(server):
    with pytest.raises(ConfigError, match="free text; give an embedding"):
        model(server, SUMMARY)
    with pytest.raises(ConfigError, match="of free text one answer is taken"):
        model(server, SUMMARY, embedding=embedding(), temperature=1.0, samples=2)


def test_free_text_that_is_refused_throughout_is_an_error_that_says_so(server):
    server.misbehave(llm_server.choice("I cannot help with that."), times=2)
    with pytest.raises(ModelError, match=r"none of 2 inputs was answered \(2 refused\)"):
        model(server, SUMMARY, embedding=embedding()).outputs(TextTable(["a", "b"]))


# ------------------------------------------------------------------------------------------------ telling what is wrong


def test_many_inputs_without_an_answer_are_told_with_their_reason_and_the_way_out(server, caplog):
    server.misbehave(llm_server.choice("", "length"), times=10)
    model(server, max_concurrency=1).outputs(TextTable(TEXTS))
    assert "m1: 10 of 30 inputs have no answer: 10 empty; most were cut off" in caplog.text
    assert "raise max_answer_tokens" in caplog.text


def test_parameters_of_the_endpoint_are_sent_and_are_part_of_what_is_asked(server):
    plain = PromptedModel("m1", PROMPT, endpoint(server.base_url))
    special = PromptedModel(
        "m1",
        PROMPT,
        endpoint(
            server.base_url,
            parameters={"reasoning_effort": "low", "temperature": None},
            max_tokens_field="max_completion_tokens",
        ),
    )
    special.outputs(TextTable(["good"]))
    sent = server.requests[0]
    assert (sent["reasoning_effort"], sent["max_completion_tokens"]) == ("low", 8)
    assert not {"temperature", "max_tokens"} & set(sent)
    assert plain.fingerprint != special.fingerprint
    assert plain.request("good").key != special.request("good").key


def test_penalties_for_repeated_words_are_off(server):
    model(server).outputs(TextTable(["good"]))
    assert (server.requests[0]["frequency_penalty"], server.requests[0]["presence_penalty"]) == (0, 0)


def test_free_text_that_is_to_be_compared_with_another_asking_keeps_the_embedding_as_it_is():
    texts = ["one text", "another one", "and more"]
    wide = np.random.default_rng(0).normal(size=(3, 200)).astype(np.float32)
    by_text = dict(zip(texts, wide, strict=True))
    features = partial(_looked_up, by_text)
    some = TextEmbedding(features, {}, axes=None)(texts[:2])
    np.testing.assert_array_equal(some, TextEmbedding(features, {}, axes=None)(texts)[:2])
    assert TextEmbedding(features, {})(texts).shape == (3, 3)


def _looked_up(by_text: dict[str, np.ndarray], table: TextTable) -> np.ndarray:
    return np.stack([by_text[text] for text in table.texts])
