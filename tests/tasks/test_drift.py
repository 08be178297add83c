"""The check of one model, called as a plain function: another panel or other settings make no baseline in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tasks.drift
from fute.config import DriftConfig, EndpointConfig, PromptConfig, PromptModel, SurrogateConfig
from fute.errors import DataError
from fute.types import Pool, TextTable
from tasks.drift import DriftCheck, check_drift
from tasks.run import Run
from tasks.study import StudyParts
from tests.llm_server import LlmServer

PROMPT = PromptConfig(id="p", template="{{text}}", verbalizer={"good": ["good"], "bad": ["bad"]})
MODEL = PromptModel(kind="prompt", id="p/api", prompt="p", endpoint="api")


CRITIC = "You are a harsh critic who dislikes everything."

Answers = list[tuple[str, float]]


def labels(prompt: str, system: str | None = None) -> Answers:
    """Reads the system text: a harsh critic is surer of what is bad."""
    good = 0.8 if "good text" in prompt else 0.3
    good -= 0.2 if system == CRITIC else 0.0
    return sorted([("good", good), ("bad", 1 - good)], key=lambda pair: -pair[1])


def opposite(prompt: str, system: str | None = None) -> Answers:
    """Another model: the same words, the other way round."""
    shares = dict(labels(prompt, system))
    return sorted([("good", shares["bad"]), ("bad", shares["good"])], key=lambda pair: -pair[1])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(study="s", store=str(tmp_path), base_dir=str(tmp_path), seed=0)


@pytest.fixture
def pool(run: Run) -> str:
    texts = [f"{'good' if number % 2 else 'bad'} text {number}" for number in range(40)]
    return run.open_store().put_pool(Pool(TextTable(texts), ["source"] * 40), run.stamp)


@pytest.fixture
def alarms(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(tasks.drift, "emit_event", lambda **event: events.append(event))
    return events


def checker(server: LlmServer, run: Run, pool: str) -> Callable[..., DriftCheck]:
    """A check of the model, with other settings of its prompt where given, or another model at its endpoint."""

    def check(model: str = "m", renew: bool = False, **prompt: Any) -> DriftCheck:
        endpoint = EndpointConfig(id="api", base_url=server.base_url, service="test", model=model)
        prompts = {"p": PROMPT.model_copy(update=prompt)}
        parts = StudyParts(surrogate=SurrogateConfig(), endpoints={"api": endpoint}, prompts=prompts)
        return check_drift.fn(run, MODEL, parts, pool, DriftConfig(panel_rows=40), renew)

    return check


def test_settings_that_a_study_changes_are_an_alarm_once_and_only_if_the_answers_change(
    run: Run, pool: str, alarms: list[dict[str, Any]]
) -> None:
    with LlmServer(labels) as server:
        check = checker(server, run, pool)
        assert check().new_baseline
        assert not check().drifted

        found = check(system=CRITIC)
        assert (found.drifted, found.new_baseline, found.changed) == (True, True, ["system"])
        assert found.reasons[-1] == (
            "the study has changed its system, and what it answers now is its baseline from now on"
        )
        assert [event["payload"]["reasons"] for event in alarms] == [tuple(found.reasons)]
        after = check(system=CRITIC)
        assert (after.drifted, after.new_baseline, after.changed) == (False, False, [])
        assert after.baseline != found.baseline

        back = check()  # its own first baseline is older than the critic's
        assert (back.drifted, back.baseline, back.changed) == (True, after.baseline, ["system"])
        assert not check().drifted
        assert len(alarms) == 2

        asked = server.n_requests
        harmless = check(system="Answer in one word.", template="Good or bad? {{text}}")
        assert (harmless.drifted, harmless.new_baseline) == (False, True)
        assert harmless.changed == ["system", "template"]
        assert (harmless.calls, server.n_requests) == (80, asked + 80)  # a baseline is asked as often as any
        assert not check(system="Answer in one word.", template="Good or bad? {{text}}").changed

        server.change_answers(opposite)
        swapped = check("another")
        assert (swapped.drifted, swapped.changed) == (True, ["model", "system", "template"])
        three = check("another", verbalizer={"good": ["good"], "bad": ["bad"], "none": ["none"]})
        assert three.reasons[0] == "its answers are 3 numbers each, and were 2"


def test_a_change_behind_the_endpoint_is_an_alarm_until_it_is_taken_for_the_baseline(
    run: Run, pool: str, alarms: list[dict[str, Any]]
) -> None:
    with LlmServer(labels) as server:
        check = checker(server, run, pool)
        check()
        for changed in (opposite, lambda prompt, system: labels(prompt, CRITIC)):  # a swap; a system text of its own
            server.change_answers(changed)
            for _ in range(2):
                found = check()
                assert (found.drifted, found.new_baseline, found.changed) == (True, False, [])
            server.change_answers(labels)
            assert not check().drifted
    assert len(alarms) == 4


def test_silence_is_no_baseline(run: Run, pool: str, alarms: list[dict[str, Any]]) -> None:
    with LlmServer(labels) as server:
        check = checker(server, run, pool)
        first = check()
        server.change_answers(lambda prompt, system: [("I cannot say", 1.0)])
        for _ in range(2):
            found = check(system=CRITIC)
            assert (found.drifted, found.new_baseline, found.baseline) == (True, False, first.baseline)
            assert "its baseline stays the old one (only 0 of the panel's 40 rows" in found.reasons[-1]
    assert len(alarms) == 2


def test_another_panel_is_no_silent_new_baseline(run: Run, pool: str) -> None:
    with LlmServer(labels) as server:
        endpoint = EndpointConfig(id="api", base_url=server.base_url, service="test", model="m")
        parts = StudyParts(surrogate=SurrogateConfig(), endpoints={"api": endpoint}, prompts={"p": PROMPT})
        first = check_drift.fn(run, MODEL, parts, pool, DriftConfig(panel_rows=40))
        assert first.new_baseline
        assert server.n_requests == 80
        with pytest.raises(DataError, match=r"p/api was not checked: its baseline is of another panel.*--renew"):
            check_drift.fn(run, MODEL, parts, pool, DriftConfig(panel_rows=20))
        assert server.n_requests == 80
        renewed = check_drift.fn(run, MODEL, parts, pool, DriftConfig(panel_rows=20), renew=True)
        assert renewed.new_baseline
        assert server.n_requests == 80 + 2 * 20


def test_answers_that_nothing_can_be_compared_with_are_no_first_baseline(run: Run, pool: str) -> None:
    with LlmServer(lambda prompt, system=None: [("good", 0.7), ("bad", 0.3)]) as server:
        check = checker(server, run, pool)
        with pytest.raises(DataError, match="p/api has no baseline yet, and what it answered cannot be one"):
            check()
        paid = server.n_requests
        server.change_answers(labels)
        # Not paid again within the day, unless that is wished.
        with pytest.raises(DataError, match="once more today: fute drift STUDY --renew"):
            check()
        assert server.n_requests == paid
        assert check(renew=True).new_baseline
        assert server.n_requests == 2 * paid
        assert not check().drifted
