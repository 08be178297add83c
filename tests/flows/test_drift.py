"""Watching a prompted model: a baseline, green checks, and an alarm in the state, the store and Prefect's events."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import tasks.drift
from flows.drift import drift
from flows.drift_results import print_drift
from storage import catalog
from storage.store import Store
from tests.flows.small_study import write_small_study
from tests.flows.test_dry_runs import foretold
from tests.flows.test_prompted_study import CANARY, answer, everything_written, write_study
from tests.llm_server import LlmServer

pytestmark = pytest.mark.slow


def opposite(prompt: str, system: str | None) -> list[tuple[str, float]]:
    """Another model: the same words, the other way round."""
    shares = dict(answer(prompt, system))
    return sorted([("good", shares["bad"]), ("bad", shares["good"])], key=lambda pair: -pair[1])


def test_a_model_that_is_swapped_raises_an_alarm_at_the_next_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(tasks.drift, "emit_event", lambda **event: events.append(event))
    store = tmp_path / "store"
    with LlmServer(answer) as server:
        study = str(write_study(tmp_path, server.base_url))
        assert drift(study, return_state=True).is_completed()
        assert server.n_requests == 2 * 2 * 60  # two prompts, asked twice about the whole of a small pool
        assert drift(study, return_state=True).is_completed()
        assert server.n_requests == 3 * 2 * 60  # asked anew, though all is in the ledger
        assert events == []
        server.change_answers(opposite)
        state = drift(study, return_state=True)
    assert state.is_failed()
    assert state.name == "Drifted"
    assert "2 of 2 models drifted" in str(state.message)
    assert sorted(event["payload"]["model"] for event in events) == ["one/api", "two/api"]
    rows = catalog.query(store, "SELECT drifted, count(*), count(flow_run_id) FROM drift GROUP BY ALL ORDER BY 1").rows
    assert rows == [(False, 2, 2), (True, 2, 2)]
    states = [row[0] for row in catalog.query(store, "SELECT state FROM runs ORDER BY created_at").rows]
    assert states == ["Completed", "Completed", "CompletedWithFailures"]
    with LlmServer(opposite) as moved:
        assert drift(study, base_urls={"api": moved.base_url}, renew=True, return_state=True).is_completed()
        assert drift(study, base_urls={"api": moved.base_url}, return_state=True).is_completed()
    assert CANARY.encode() not in everything_written(tmp_path)


def test_settings_that_the_study_changes_are_told_and_an_alarm_only_if_the_answers_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    store = Store(tmp_path / "store")
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url)
        assert drift(str(study), return_state=True).is_completed()
        written = yaml.safe_load(study.read_text())
        written["prompts"][0]["system"] = "Answer in one word."  # which this server does not read
        study.write_text(yaml.safe_dump(written, sort_keys=False))
        assert [step["calls"] for step in foretold("drift", str(study))] == [2 * 60, 60]
        before = server.n_requests
        state = drift(str(study), return_state=True)
        assert state.is_completed()
        assert server.n_requests == before + 3 * 60
        assert "one/api: the study has changed its system; it answers as before" in caplog.text
        shown = StringIO()
        print_drift(Console(file=shown, width=200), store, str(state.state_details.flow_run_id))
        assert "one/api: the study has changed its system; it answers as before" in shown.getvalue()
        assert shown.getvalue().count("new baseline of one/api@") == 1
        assert shown.getvalue().count("new baseline of") == 1

        server.change_answers(opposite)
        study = write_study(tmp_path, server.base_url, model="another")
        state = drift(str(study), return_state=True)
        assert state.name == "Drifted"
        assert "one/api: its answers changed" in str(state.message)
        for changed in ("model and system", "model"):
            told = f"the study has changed its {changed}, and what it answers now is its baseline from now on"
            assert told in str(state.message)
        assert drift(str(study), return_state=True).is_completed()
    rows = catalog.query(store.root, "SELECT drifted, changed FROM drift WHERE model = 'one/api' ORDER BY created_at")
    assert rows.rows == [(False, ["system"]), (True, ["model", "system"]), (False, [])]


def test_a_model_of_free_text_that_falls_silent_is_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(tasks.drift, "emit_event", lambda **event: events.append(event))
    with LlmServer(lambda prompt, system: [(" ".join(reversed(prompt.split())), 1.0)]) as server:
        study = write_small_study(
            tmp_path,
            models=[{"kind": "prompt", "prompt": "*", "endpoint": "api"}],
            prompts=[{"id": "rewritten", "answer": "text", "template": "Say it otherwise. {{text}}"}],
            endpoints=[{"id": "api", "base_url": server.base_url, "service": "test", "model": "m"}],
        )
        assert drift(str(study), return_state=True).is_completed()
        server.change_answers(lambda prompt, system: [("I'm sorry, but I can't help with that.", 1.0)])
        state = drift(str(study), return_state=True)
        written = yaml.safe_load(study.read_text())
        written["prompts"][0]["template"] = "Say it in other words. {{text}}"
        study.write_text(yaml.safe_dump(written, sort_keys=False))
        again = drift(str(study), return_state=True)
    assert (state.name, again.name) == ("Drifted", "Drifted")
    assert "it answered 0% of the panel, and 100% at first" in str(state.message)
    assert "the study has changed its template, and its baseline stays the old one" in str(again.message)
    assert [event["payload"]["model"] for event in events] == ["rewritten/api"] * 2
    rows = catalog.query(tmp_path / "store", "SELECT drifted, answered, calls FROM drift").rows
    assert rows == [(True, 0.0, 60)] * 2
