"""A bias of the labels is taken out of a prompt's answers: the closed forms, and a prompted model with a leaning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from fute.config import EndpointConfig, PromptConfig, Study
from fute.errors import ConfigError, ModelError
from fute.expand import expand_models, watched_models
from fute.llm.cache import MemoryLedger
from fute.llm.types import Answer, ChatRequest
from fute.models.calibration import CONTENT_FREE, calibrated, content_free_bias, marginal_bias
from fute.models.prompted import PromptedModel, missing_calls
from fute.types import TextTable
from tests.llm_server import LlmServer

LEANING = np.array([1.5, -0.5, -1.0])
PROMPT = PromptConfig(id="p", template="Mood?\n{{text}}", verbalizer={"sad": ["no"], "glad": ["yes"]})
TEXTS = TextTable(["glad 1", "glad 2", "glad 3", "sad 1", "sad 2", "sad 3"])


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.exp(logits)
    return shares / shares.sum(axis=-1, keepdims=True)


def balanced_logits(n: int = 60) -> NDArray[np.float64]:
    """Of three labels, no one more probable than another on average: each row comes in all rotations."""
    rows = np.random.default_rng(0).normal(size=(n // 3, 3))
    return np.concatenate([np.roll(rows, turn, axis=1) for turn in range(3)])


def test_an_additive_bias_of_the_logits_is_removed_exactly() -> None:
    logits, nothing = balanced_logits(), np.random.default_rng(1).normal(size=(3, 3))
    nothing -= nothing.mean(axis=0)
    biased = softmax(logits + LEANING)
    by_inputs = content_free_bias(softmax(nothing + LEANING))
    by_texts = marginal_bias(biased)
    assert by_inputs is not None
    assert by_texts is not None
    np.testing.assert_allclose(by_inputs, -LEANING, atol=1e-12)
    np.testing.assert_allclose(by_texts, -LEANING, atol=1e-5)
    np.testing.assert_allclose(calibrated(biased, by_inputs), softmax(logits), atol=1e-12)
    np.testing.assert_allclose(calibrated(biased, by_texts), softmax(logits), atol=1e-5)


@pytest.mark.parametrize("find", [content_free_bias, marginal_bias])
def test_the_order_of_labels_and_of_rows_does_not_matter(find) -> None:
    values, labels, rows = softmax(balanced_logits() + LEANING), [2, 0, 1], np.random.default_rng(2).permutation(60)
    np.testing.assert_allclose(find(values[rows][:, labels]), find(values)[labels], atol=1e-6)


@pytest.mark.parametrize("find", [content_free_bias, marginal_bias])
def test_where_nothing_tells_how_sure_it_is_there_is_no_bias(find) -> None:
    assert find(np.zeros((0, 3))) is None
    assert find(np.zeros((0, 0))) is None
    assert find(np.eye(3)) is None
    assert find(np.ones((4, 1))) is None  # one label: certain


def test_certain_answers_and_rows_without_one_stay_as_they_are() -> None:
    values = np.array([[1.0, 0.0], [0.0, 0.0], [0.5, 0.5]])
    found = calibrated(values, np.array([-9.0, 9.0]))
    np.testing.assert_array_equal(found[:2], values[:2])
    assert found[2, 1] > 0.99
    with_certain = np.concatenate([softmax(balanced_logits() + LEANING), np.eye(3)[[0] * 50]])
    np.testing.assert_allclose(marginal_bias(with_certain), -LEANING, atol=1e-5)


def test_a_prompt_that_always_says_one_label_loses_its_bias_and_a_share_stays_a_share() -> None:
    values = np.tile([0.9, 0.1], (5, 1))
    bias = marginal_bias(values)
    assert bias is not None
    np.testing.assert_allclose(calibrated(values, bias), 0.5, atol=1e-6)


# ------------------------------------------------------------------------------------------------------ prompted model


def leaning(prompt: str, system: str | None = None) -> list[tuple[str, float]]:
    """Says yes to everything, less surely where the text is sad."""
    text = prompt.rpartition("\n")[2]
    yes = 0.9 if text.startswith("glad") else 0.6 if text.startswith("sad") else 0.8
    return [("yes", yes), ("no", 1 - yes)]


class WithoutProbabilities:
    """A host that is asked for log-probabilities and gives none."""

    def complete(self, request: ChatRequest) -> Answer:
        return Answer("yes" if "glad" in request.messages[-1].content else "no")


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with LlmServer(leaning) as server:
        yield server


def model(server: LlmServer, prompt: PromptConfig = PROMPT, *, logprobs: bool = True, **options) -> PromptedModel:
    endpoint = EndpointConfig(id="e", base_url=server.base_url, model="m", logprobs=logprobs, max_attempts=1)
    return PromptedModel("m1", prompt, endpoint, **options)


@pytest.mark.parametrize(("calibration", "more"), [("none", 0), ("content_free", 3), ("marginal", 0)])
def test_calibration_costs_its_content_free_calls_once_and_they_are_foreseen(server, calibration, more) -> None:
    ledger = MemoryLedger()
    asked = model(server, ledger=ledger, calibration=calibration)
    assert missing_calls(asked, TEXTS, ledger) == 6 + more
    outputs = asked.outputs(TEXTS).validate(6)
    assert outputs.details["calls"] == server.n_requests == 6 + more
    assert outputs.details["from_logprobs"] == 6
    assert missing_calls(asked, TEXTS, ledger) == 0
    assert outputs.values.argmax(axis=1).tolist() == ([1] * 6 if calibration == "none" else [1, 1, 1, 0, 0, 0])
    assert outputs.details.get("calibration", "none") == calibration


def test_another_calibration_of_the_same_answers_asks_for_nothing_that_is_there(server) -> None:
    ledger = MemoryLedger()
    model(server, ledger=ledger, calibration="content_free").outputs(TEXTS)
    n = server.n_requests
    for calibration in ("none", "marginal", "content_free"):
        model(server, ledger=ledger, calibration=calibration).outputs(TEXTS)
    assert server.n_requests == n


def test_content_free_odds_are_taken_out(server) -> None:
    values = model(server, calibration="content_free").outputs(TEXTS).values
    np.testing.assert_allclose(values[0, 1] / values[0, 0], 9 / 4, rtol=1e-3)
    np.testing.assert_allclose(values[5, 1] / values[5, 0], 1.5 / 4, rtol=1e-3)


def test_parts_of_a_table_are_not_calibrated(server) -> None:
    part = model(server, calibration="content_free").outputs(TEXTS, part_of=100)
    np.testing.assert_allclose(part.values[:, 1], [0.9] * 3 + [0.6] * 3, atol=1e-5)
    assert server.n_requests == 6


def test_calibration_is_part_of_the_identity_and_none_is_no_part_of_it(server) -> None:
    found = {c: model(server, calibration=c).fingerprint for c in ("none", "content_free", "marginal")}
    assert len(set(found.values())) == 3
    assert found["none"] == model(server).fingerprint
    assert "calibration" not in model(server).identity


def test_a_prompt_for_pairs_is_asked_about_pairs_that_say_nothing(server) -> None:
    pairs = PromptConfig(id="p", template="{{premise}}\n{{hypothesis}}", verbalizer=PROMPT.verbalizer)
    model(server, pairs, calibration="content_free").outputs(TextTable(["a", "b"], ["glad", "sad"]))
    asked = {m["content"] for request in server.requests for m in request["messages"]}
    assert {f"{text}\n{text}" for text in CONTENT_FREE} <= asked


def test_drift_compares_answers_as_they_were_read() -> None:
    study = Study.model_validate(
        {
            "name": "s",
            "pool": {"sources": [{"data": {"files": "pool.csv"}}]},
            "prompts": [PROMPT.model_dump()],
            "endpoints": [{"id": "e", "base_url": "http://127.0.0.1:1/v1", "model": "m"}],
            "models": [{"kind": "prompt", "prompt": "p", "endpoint": "e", "calibration": "marginal"}],
        }
    )
    assert [model.calibration for model in expand_models(study)] == ["marginal"]
    assert [model.calibration for model in watched_models(study)] == ["none"]


def test_where_there_are_no_probabilities_calibration_is_refused(server) -> None:
    with pytest.raises(ConfigError, match="calibration marginal needs label probabilities"):
        model(server, logprobs=False, calibration="marginal")
    for calibration in ("content_free", "marginal"):
        with pytest.raises(ModelError, match=f"calibration {calibration} is not possible"):
            model(server, calibration=calibration, completer=WithoutProbabilities()).outputs(TEXTS)


def test_a_label_that_nobody_gave_does_not_win_by_calibration() -> None:
    never = np.array([[0.8, 0.2, 0.0], [0.6, 0.4, 0.0], [0.7, 0.3, 0.0]])
    answers = np.array([[0.9, 0.1, 0.0], [0.3, 0.7, 0.0]])
    marginal = marginal_bias(never)
    assert marginal is not None
    assert marginal[2] == 0
    assert calibrated(answers, marginal)[:, 2].max() < 0.01
    content_free = content_free_bias(never)
    assert content_free is not None
    assert np.ptp(content_free) < -np.log(1e-3)  # bounded: so few answers do not say that it is impossible
