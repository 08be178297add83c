"""The check of one model, called as a plain function: what is asked, what is found, and what makes no baseline."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fute.config import DriftConfig, EndpointConfig, PromptConfig, PromptModel, SurrogateConfig
from fute.errors import DataError
from fute.types import Pool, TextTable
from storage.drift import DriftStore
from tasks.drift import check_drift
from tasks.identify import identify_endpoint
from tasks.run import Run
from tasks.study import StudyParts
from tasks.watch import DriftCheck
from tests.llm_server import PROTOCOLS, LlmServer, status

PROMPT = PromptConfig(id="p", template="{{text}}", verbalizer={"good": ["good"], "bad": ["bad"]})
MODEL = PromptModel(kind="prompt", id="p/api", prompt="p", endpoint="api")
CRITIC = "You are a harsh critic who dislikes everything."
ROWS = 100

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


def critic(prompt: str, system: str | None = None) -> Answers:
    """A host that adds a system text of its own: no label changes."""
    return labels(prompt, CRITIC)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(study="s", store=str(tmp_path), base_dir=str(tmp_path), seed=0)


@pytest.fixture
def pool(run: Run) -> str:
    texts = [f"{'good' if number % 2 else 'bad'} text {number}" for number in range(ROWS)]
    return run.open_store().put_pool(Pool(TextTable(texts), ["source"] * ROWS), run.stamp)


class Checker:
    """Checks of the model, stored as the flow stores them, with other settings where given."""

    def __init__(self, server: LlmServer, run: Run, pool: str, **config: Any) -> None:
        self.server, self.run, self.pool, self.config = server, run, pool, config

    def parts(self, model: str = "m", logprobs: bool = True, **prompt: Any) -> StudyParts:
        endpoint = EndpointConfig(
            id="api", base_url=self.server.base_url, service="test", model=model, logprobs=logprobs
        )
        prompts = {"p": PROMPT.model_copy(update=prompt)}
        other = endpoint.model_copy(update={"id": "gateway", "service": "gateway"})
        endpoints = {"api": endpoint, "gateway": other}
        return StudyParts(surrogate=SurrogateConfig(), endpoints=endpoints, prompts=prompts)

    def __call__(self, model: str = "m", renew: bool = False, wire: bool = False, **prompt: Any) -> list[DriftCheck]:
        drift = DriftConfig(**{"panel_rows": ROWS, "askings": 4, **self.config})
        looked = check_drift.fn(self.run, MODEL, self.parts(model, **prompt), self.pool, drift, renew, wire)
        checks = [c.judged(c.p_value is not None and c.p_value <= 0.01) if c.tier == "panel" else c for c in looked]
        for check in checks:
            if check.tier in ("wire", "panel"):
                DriftStore(self.run.open_store()).put_check(check.row(self.run.study), self.run.stamp, check.day)
        return checks


@pytest.fixture
def checker(run: Run, pool: str) -> Callable[..., Checker]:
    return lambda server, **config: Checker(server, run, pool, **config)


def states(checks: list[DriftCheck]) -> list[tuple[str, str]]:
    return [(check.tier, check.state) for check in checks]


def test_a_change_is_found_within_the_first_batch_and_said_in_texts(checker: Callable[..., Checker]) -> None:
    with LlmServer(labels) as server:
        check = checker(server)
        (first,) = check()
        assert (first.tier, first.calls, server.n_requests) == ("baseline", 4 * ROWS, 4 * ROWS)
        (quiet,) = check()
        assert (states([quiet]), quiet.calls, quiet.asked) == ([("panel", "unchanged")], 32 + ROWS, [32, ROWS])
        assert quiet.reasons == ["no change; a change of more than 3.0% would have been seen (95 %)"]
        server.change_answers(opposite)
        (found,) = check()
        assert (found.state, found.calls, found.label_changed) == ("changed", 32, [32])
        assert found.reasons[0].startswith("the label changed on 100.0% (89.1% to 100.0%) of your texts, most often ")
        assert "; first seen between 20" in found.reasons[0]
        (still,) = check()
        assert (still.state, still.asked) == ("changed", [ROWS])  # and on how many it has, of the whole panel
        server.change_answers(labels)
        for _ in range(2):
            assert states(check()) == [("panel", "unchanged")]  # as it was: no alarm stays
        server.change_answers(opposite)
        assert states(check()) == [("panel", "changed")]


def test_a_change_of_probabilities_alone_is_one(checker: Callable[..., Checker]) -> None:
    with LlmServer(labels) as server:
        check = checker(server)
        check()
        server.change_answers(critic)
        (found,) = check()
    assert (found.state, found.label_changed, found.moved) == ("changed", [0], [32])
    assert "the probabilities of labels moved on 100.0% of your texts; the label changed on 0.0%" in found.reasons[0]


def test_a_wire_asks_ten_rows_and_the_panel_when_it_trips_or_a_week_has_passed(
    checker: Callable[..., Checker], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LlmServer(labels) as server:
        check = checker(server)
        check()
        asked = server.n_requests
        (quiet,) = check(wire=True)
        assert (states([quiet]), quiet.calls, server.n_requests) == ([("wire", "unchanged")], 10, asked + 10)
        server.change_answers(opposite)
        wire, panel = check(wire=True)
        assert states([wire, panel]) == [("wire", "tripped"), ("panel", "changed")]
        assert (wire.calls, panel.calls) == (10, 32)
        assert "its answers to 10 rows look otherwise than before (p 0.000" in wire.reasons[0]
        # It trips once for one cause, for what it heard then is what it is compared with; the alarm stays.
        (after,) = check(wire=True)
        assert (after.state, after.drifted, after.calls) == ("changed", True, 10)
        assert after.reasons[0].startswith("its panel had changed when it was read last (20")
        later = datetime.now(UTC) + timedelta(days=8)
        monkeypatch.setattr("tasks.drift.datetime", type("Later", (), {"now": staticmethod(lambda _: later)}))
        assert [tier for tier, _ in states(check(wire=True))] == ["wire", "panel"]


def test_another_name_of_the_model_trips_the_wire(checker: Callable[..., Checker]) -> None:
    with LlmServer(labels) as server:
        check = checker(server)
        check()
        server.model = "test-model-0613"
        wire, panel = check(wire=True)
        assert wire.reasons[0] == "the endpoint names another model: test-model-0613; until now test-model"
        assert states([wire, panel]) == [("wire", "tripped"), ("panel", "unchanged")]
        assert states(check(wire=True)) == [("wire", "unchanged")]


def test_for_trips_the_panel_is_read_once_a_day(
    checker: Callable[..., Checker], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LlmServer(labels) as server:
        check = checker(server)
        check()
        server.model = "test-model-0613"
        assert states(check(wire=True)) == [("wire", "tripped"), ("panel", "unchanged")]
        server.change_answers(opposite)
        check(wire=True)  # one asking to be compared with is too few to trip it, two are not
        server.change_answers(labels)
        server.model = "test-model-0700"
        (tripped,) = check(wire=True)
        assert tripped.state == "tripped"
        assert "the panel was read for a trip within the last day" in tripped.reasons[-1]
        monkeypatch.setattr("tasks.drift.REST", timedelta(0))
        server.model = "test-model-0800"
        assert states(check(wire=True)) == [("wire", "tripped"), ("panel", "unchanged")]


def test_silence_is_nothing_that_a_wire_compares_with(checker: Callable[..., Checker]) -> None:
    with LlmServer(labels) as server:
        check = checker(server)
        check()
        server.change_answers(lambda prompt, system: [("under maintenance", 1.0)])
        for _ in range(2):  # as long as it lasts
            assert states(check(wire=True)) == [("wire", "tripped"), ("panel", "unread")]
        server.change_answers(opposite)
        assert states(check(wire=True)) == [("wire", "tripped"), ("panel", "changed")]


def test_a_change_within_a_day_of_a_trip_is_read_when_that_is_over(
    checker: Callable[..., Checker], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LlmServer(labels) as server:
        check = checker(server)
        check()
        server.model = "test-model-0613"  # harmless
        assert states(check(wire=True)) == [("wire", "tripped"), ("panel", "unchanged")]
        server.change_answers(opposite)
        for _ in range(3):
            assert states(check(wire=True)) == [("wire", "tripped")]
        later = datetime.now(UTC) + timedelta(hours=25)
        monkeypatch.setattr("tasks.drift.datetime", type("Later", (), {"now": staticmethod(lambda _: later)}))
        assert states(check(wire=True)) == [("wire", "tripped"), ("panel", "changed")]


def test_quiet_looks_sharpen_a_wire_of_labels_alone(checker: Callable[..., Checker]) -> None:
    """Five of 20 labels: three askings give them (1/4)^5 = 0.001, and thirty (1/31)^5."""

    def hard(prompt: str, system: str | None = None) -> Answers:
        return [(labels(prompt)[0][0], 1.0)]

    with LlmServer(hard) as server:
        check = checker(server, askings=6, panel_days=100)
        check(logprobs=False)
        for _ in range(8):
            (quiet,) = check(wire=True, logprobs=False)
            assert (quiet.state, quiet.calls) == ("unchanged", 20)
        now = iter(range(1000))

        def some(prompt: str, system: str | None = None) -> Answers:
            return [(opposite(prompt)[0][0], 1.0)] if next(now) < 5 else hard(prompt)

        server.change_answers(some)
        wire = check(wire=True, logprobs=False)[0]
        assert (wire.state, wire.p_value is not None and wire.p_value <= 0.001) == ("tripped", True)


def test_settings_that_a_study_changes_are_told_once_and_are_an_alarm_only_if_the_answers_change(
    checker: Callable[..., Checker],
) -> None:
    with LlmServer(labels) as server:
        check = checker(server)
        check()
        (found,) = check(system=CRITIC)
        assert (found.tier, found.state, found.drifted, found.changed) == ("settings", "settings", True, ["system"])
        assert found.reasons[-1] == (
            "the study has changed its system, and what it answers now is its baseline from now on"
        )
        (after,) = check(system=CRITIC)
        assert (after.state, after.changed) == ("unchanged", [])
        assert after.baseline != found.baseline
        (back,) = check()  # its own first baseline is older than the critic's
        assert (back.drifted, back.baseline, back.changed) == (True, after.baseline, ["system"])
        (harmless,) = check(system="Answer in one word.", template="Good or bad? {{text}}")
        assert (harmless.drifted, harmless.changed) == (False, ["system", "template"])
        assert harmless.calls == 4 * ROWS  # a baseline is asked as often as any
        (three,) = check("another", verbalizer={"good": ["good"], "bad": ["bad"], "none": ["none"]})
        assert three.drifted
        assert three.reasons[0] == "its answers are of another kind, and cannot be compared with those before"
        renamed = {"fine": ["good"], "poor": ["bad"], "none": ["none"]}
        assert check("another", verbalizer=renamed)[0].reasons[0] == three.reasons[0]


def test_labels_in_another_order_are_compared_by_their_names(checker: Callable[..., Checker]) -> None:
    with LlmServer(labels) as server:
        check = checker(server)
        check()
        (turned,) = check(verbalizer={"bad": ["bad"], "good": ["good"]})
        assert (turned.drifted, turned.changed, turned.found and turned.found.changed) == (False, ["verbalizer"], 0)


def test_an_alarm_is_not_lost_in_a_change_of_settings(checker: Callable[..., Checker]) -> None:
    with LlmServer(labels) as server:
        check = checker(server)
        check()
        server.change_answers(opposite)
        assert states(check()) == [("panel", "changed")]
        (found,) = check(system="Answer in one word.")
        assert (found.tier, found.state, found.drifted) == ("settings", "changed", True)
        assert found.reasons[-1].startswith("before that its panel had changed already, when it was read last (20")


def test_an_alarm_stands_until_the_panel_is_as_at_first(checker: Callable[..., Checker]) -> None:
    """12 of 64 are an alarm; after them 4, more than the noise can be, are evidence that fades (p 0.004, 0.13)."""

    def turned(first: int) -> Callable[..., Answers]:
        asked = count()
        return lambda prompt, system=None: (opposite if next(asked) < first else labels)(prompt, system)

    with LlmServer(labels) as server:
        check = checker(server, panel_rows=64)
        check()
        for changed in (12, 4):
            server.change_answers(turned(changed))
            (found,) = check()
            assert (found.state, found.label_changed) == ("changed", [changed])
        server.change_answers(labels)
        assert states(check()) == [("panel", "unchanged")]


def test_what_the_server_failed_is_no_answer_that_changed(
    checker: Callable[..., Checker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fute.llm.retry.FIRST_WAIT_S", 0.001)

    class Flaky(LlmServer):
        failing = False

        def _handle(self, exchange: Any, request: Any) -> None:
            number = int(PROTOCOLS[exchange.path].prompt(request).split()[-1])
            if self.failing and number % 9 == 3:
                return status(500)(exchange, request)
            return super()._handle(exchange, request)

    with Flaky(labels) as server:
        server.handlers = dict.fromkeys(PROTOCOLS, server._handle)
        check = checker(server, askings=6)
        check()
        server.failing = True
        (found,) = check()
        assert (found.state, found.label_changed) == ("unchanged", [0, 0])
        assert (found.asked[-1], len(found.panel_answered)) == (ROWS - 11, ROWS)
        assert "11 of 100 texts were left out: the server failed them" in found.reasons


def test_refusals_are_no_reading_and_no_baseline(checker: Callable[..., Checker]) -> None:
    with LlmServer(labels) as server:
        check = checker(server)
        (first,) = check()
        server.change_answers(lambda prompt, system: [("I cannot say", 1.0)])
        (found,) = check()
        assert (found.state, found.reasons) == ("unread", ["it answered 0 of 32 texts, and all of them at first"])
        (silent,) = check(system=CRITIC)  # nothing is known of the change of settings, and one asking says so
        assert (silent.state, silent.drifted, silent.calls) == ("unread", False, ROWS)
        assert silent.reasons[0].startswith("the study has changed its system, and it answered 0 of 100 texts, ")
        server.change_answers(labels)
        (again,) = check()
        assert (again.state, again.baseline) == ("unchanged", first.baseline)


def test_another_panel_is_no_silent_new_baseline(checker: Callable[..., Checker]) -> None:
    with LlmServer(labels) as server:
        checker(server)()
        asked = server.n_requests
        smaller = checker(server, panel_rows=20)
        with pytest.raises(DataError, match=r"p/api was not checked: its baseline is of another panel.*--renew"):
            smaller()
        assert server.n_requests == asked
        (renewed,) = smaller(renew=True)
        assert (renewed.tier, server.n_requests) == ("baseline", asked + 4 * 20)


def test_silence_is_no_first_baseline_and_is_paid_once_a_day(checker: Callable[..., Checker]) -> None:
    with LlmServer(lambda prompt, system=None: [("I cannot say", 1.0)]) as server:
        check = checker(server)
        for _ in range(2):
            with pytest.raises(DataError, match="p/api has no baseline yet.*once more today: fute drift STUDY --renew"):
                check()
            assert server.n_requests == 4 * ROWS
        server.change_answers(labels)
        (made,) = check(renew=True)
        assert made.tier == "baseline"


def test_an_endpoint_is_identified_by_twenty_calls(checker: Callable[..., Checker], run: Run, pool: str) -> None:
    with LlmServer(labels) as server:
        check, drift = checker(server), DriftConfig(panel_rows=ROWS, askings=4)

        def identity(**prompt: Any) -> DriftCheck:
            return identify_endpoint.fn(run, MODEL, "gateway", check.parts(**prompt), pool, drift)

        with pytest.raises(DataError, match=r"p/api has no baseline with its present settings.*fute drift STUDY"):
            identity()
        check()
        asked = server.n_requests
        same = identity()
        assert (same.state, same.calls, server.n_requests) == ("same", 20, asked + 20)
        assert same.reasons[0].startswith("gateway as p/api: the same, as far as 20 texts can tell")
        server.change_answers(opposite)
        assert identity().state == "same"  # the same day: not asked again
        assert server.n_requests == asked + 20
        check(renew=True)
        server.change_answers(critic)
        another = identity()
        assert another.state == "another"
        # Silence is no model, and no verdict of that day.
        check(renew=True)
        server.change_answers(lambda prompt, system: [("under maintenance", 1.0)])
        silent = identity()
        assert (silent.state, silent.p_value) == ("unread", None)
        assert silent.reasons[0] == "gateway as p/api: cannot tell: it answered 0 of 20 texts, and all of them at first"
        server.change_answers(critic)
        assert identity().state == "same"
        # What was identified is no check of the model itself.
        assert states(check(wire=True)) == [("wire", "unchanged")]
