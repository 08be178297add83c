"""Watching a prompted model: a baseline, green checks, and an alarm in the state, the store and Prefect's events."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import flows.drift
from flows.drift import drift
from flows.drift_cli import EXIT_OF_DRIFT, EXIT_OF_IDENTITY
from flows.drift_results import print_drift
from flows.identify import identify
from flows.run_command import end_of_run
from storage import catalog
from storage.store import Store
from tests.flows.small_study import write_small_study
from tests.flows.test_dry_runs import foretold
from tests.flows.test_prompted_study import CANARY, everything_written, write_study
from tests.llm_server import LlmServer

pytestmark = pytest.mark.slow

BASELINE = 6 * 60  # calls: the whole of a small pool, asked six times


def answer(prompt: str, system: str | None) -> list[tuple[str, float]]:
    """Never quite undecided: of even odds the opposite is the same."""
    share = 0.2 + 0.6 * (len(prompt) % 6) / 5
    return sorted([("good", share), ("bad", 1 - share)], key=lambda pair: -pair[1])


def opposite(prompt: str, system: str | None) -> list[tuple[str, float]]:
    """Another model: the same words, the other way round."""
    shares = dict(answer(prompt, system))
    return sorted([("good", shares["bad"]), ("bad", shares["good"])], key=lambda pair: -pair[1])


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(flows.drift, "emit_event", lambda **event: told.append(event))
    return told


def exit_code(state: Any, codes: dict[str, int] = EXIT_OF_DRIFT) -> int:
    return end_of_run(state, lambda: None, codes)


def test_a_model_that_is_swapped_raises_an_alarm_at_the_next_check(
    tmp_path: Path, events: list[dict[str, Any]]
) -> None:
    store = tmp_path / "store"
    with LlmServer(answer) as server:
        study = str(write_study(tmp_path, server.base_url))
        assert drift(study, return_state=True).is_completed()
        assert server.n_requests == 2 * BASELINE  # two prompts
        state = drift(study, return_state=True)
        assert exit_code(state) == 0
        assert server.n_requests == 2 * (BASELINE + 60)  # asked anew, though all is in the ledger
        assert drift(study, wire=True, return_state=True).is_completed()
        assert server.n_requests == 2 * (BASELINE + 60 + 10)
        assert events == []
        server.change_answers(opposite)
        state = drift(study, wire=True, return_state=True)
        assert server.n_requests == 2 * (BASELINE + 60 + 10 + 10 + 60)
    assert (state.is_failed(), state.name, exit_code(state)) == (True, "Drifted", 3)
    assert "2 of 2 models drifted: one/api: the label changed on " in str(state.message)
    assert sorted(event["payload"]["model"] for event in events) == ["one/api", "two/api"]
    rows = catalog.query(
        store, "SELECT tier, state, count(*), count(flow_run_id) FROM drift GROUP BY ALL ORDER BY 1, 2"
    )
    assert rows.rows == [
        ("panel", "changed", 2, 2), ("panel", "unchanged", 2, 2),
        ("wire", "tripped", 2, 2), ("wire", "unchanged", 2, 2),
    ]  # fmt: skip
    states = [row[0] for row in catalog.query(store, "SELECT state FROM runs ORDER BY created_at").rows]
    assert states == ["Completed", "Completed", "Completed", "CompletedWithFailures"]
    shown = StringIO()
    print_drift(Console(file=shown, width=300), Store(store), str(state.state_details.flow_run_id))
    assert "make new baselines: fute drift STUDY --renew" in shown.getvalue()
    with LlmServer(opposite) as moved:
        assert drift(study, base_urls={"api": moved.base_url}, renew=True, return_state=True).is_completed()
        assert drift(study, base_urls={"api": moved.base_url}, return_state=True).is_completed()
    assert CANARY.encode() not in everything_written(tmp_path)


def test_settings_that_the_study_changes_are_told_and_an_alarm_of_its_own_if_the_answers_change(
    tmp_path: Path, events: list[dict[str, Any]]
) -> None:
    store = Store(tmp_path / "store")
    with LlmServer(answer) as server:
        study = write_study(tmp_path, server.base_url)
        assert drift(str(study), return_state=True).is_completed()
        written = yaml.safe_load(study.read_text())
        written["prompts"][0]["system"] = "Answer in one word."  # which this server does not read
        study.write_text(yaml.safe_dump(written, sort_keys=False))
        assert [step["calls"] for step in foretold("drift", str(study))] == [BASELINE, 60]
        state = drift(str(study), return_state=True)
        assert exit_code(state) == 0
        shown = StringIO()
        print_drift(Console(file=shown, width=300), store, str(state.state_details.flow_run_id))
        assert "one/api: the study has changed its system; it answers as before" in shown.getvalue()
        assert shown.getvalue().count("new baseline of one/api@") == 1

        server.change_answers(opposite)
        study = write_study(tmp_path, server.base_url, model="another")
        state = drift(str(study), return_state=True)
        assert (state.name, exit_code(state)) == ("SettingsChanged", 5)
        for changed in ("model and system", "model"):
            told = f"the study has changed its {changed}, and what it answers now is its baseline from now on"
            assert told in str(state.message)
        assert drift(str(study), return_state=True).is_completed()

        def half(prompt: str, system: str | None) -> list[tuple[str, float]]:
            return answer(prompt, system) if system else [("I cannot say", 1.0)]

        server.change_answers(half)
        written = yaml.safe_load(study.read_text())
        written["prompts"][0]["system"] = "Answer in one word."
        study.write_text(yaml.safe_dump(written, sort_keys=False))
        # That one of them could not be read is no change of a hosted model, and counts for more than one of our own.
        assert exit_code(drift(str(study), return_state=True)) == 4
    rows = catalog.query(store.root, "SELECT drifted, changed FROM drift WHERE model = 'one/api' ORDER BY created_at")
    assert rows.rows == [(False, ["system"]), (True, ["model", "system"]), (False, []), (True, ["system"])]


def test_a_model_of_free_text_that_falls_silent_could_not_be_read_and_one_that_says_else_has_changed(
    tmp_path: Path, events: list[dict[str, Any]]
) -> None:
    with LlmServer(lambda prompt, system: [(" ".join(reversed(prompt.split())), 1.0)]) as server:
        study = write_small_study(
            tmp_path,
            models=[{"kind": "prompt", "prompt": "*", "endpoint": "api"}],
            prompts=[{"id": "rewritten", "answer": "text", "template": "Say it otherwise. {{text}}"}],
            endpoints=[{"id": "api", "base_url": server.base_url, "service": "test", "model": "m"}],
        )
        assert drift(str(study), return_state=True).is_completed()
        assert drift(str(study), wire=True, return_state=True).is_completed()
        server.change_answers(lambda prompt, system: [("I'm sorry, but I can't help with that.", 1.0)])
        silent = drift(str(study), return_state=True)
        server.change_answers(lambda prompt, system: [("It is raining, and the trains are late again.", 1.0)])
        changed = drift(str(study), return_state=True)
    assert (silent.name, exit_code(silent)) == ("CompletedWithFailures", 4)
    assert "it answered 0 of 60 texts, and all of them at first" in str(silent.message)
    assert (changed.name, exit_code(changed)) == ("Drifted", 3)
    assert "rewritten/api: the answer changed on " in str(changed.message)
    assert [event["payload"]["model"] for event in events] == ["rewritten/api"]


def test_another_host_is_identified(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    with LlmServer(answer) as server, LlmServer(answer) as copy, LlmServer(opposite) as swapped:
        study = write_study(tmp_path, server.base_url)
        written = yaml.safe_load(study.read_text())
        for id_, host in (("copy", copy), ("cheap", swapped)):
            written["endpoints"].append(
                {**written["endpoints"][0], "id": id_, "base_url": host.base_url, "service": id_}
            )
        study.write_text(yaml.safe_dump(written, sort_keys=False))
        assert drift(str(study), return_state=True).is_completed()
        asked = server.n_requests
        same = identify(str(study), "copy", "api", return_state=True)
        another = identify(str(study), "cheap", "one/api", return_state=True)
        assert server.n_requests == asked
        assert (copy.n_requests, swapped.n_requests) == (20, 20)
    assert exit_code(same, EXIT_OF_IDENTITY) == 0
    assert (another.name, exit_code(another, EXIT_OF_IDENTITY)) == ("Another", 3)
    assert "cheap as one/api: another model" in str(another.message)
