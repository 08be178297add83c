"""Dry runs: what they foretell is what the endpoint then counts, and they ask nothing themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from flows.cli import main
from flows.drift import drift
from tests.flows.test_prompted_study import CANARY, answer, write_study
from tests.flows.test_select_prompts import answer as mood
from tests.flows.test_select_prompts import choose, write_texts
from tests.flows.test_select_prompts import write_study as write_selection
from tests.llm_server import LlmServer


def foretold(*arguments: str) -> list[dict[str, Any]]:
    told = CliRunner().invoke(main, [*arguments, "--dry-run", "--json"])
    assert told.exit_code == 0, told.output
    steps: list[dict[str, Any]] = json.loads(told.stdout)
    return steps


def test_a_selections_calls_are_foretold_for_a_file_and_for_a_dataset(tmp_path: Path) -> None:
    with LlmServer(mood) as server:
        study, texts = write_selection(tmp_path, server.base_url), str(write_texts(tmp_path))
        command = ("select", "prompts", str(study), "--target", texts)
        calls = sum(step["calls"] for step in foretold(*command))
        assert sum(step["calls"] for step in foretold("select", "prompts", str(study), "--target", "mood")) > 0
        assert server.n_requests == 0
        assert not (tmp_path / "store").exists()
        share = sum(step["calls"] for step in foretold(*command, "--share", "0.5"))
        assert share == calls / 2
        choose(study, texts)
        assert server.n_requests == calls
        assert all(step["calls"] == 0 for step in foretold(*command))


def test_a_selection_that_would_be_refused_is_refused_before_it_is_priced(tmp_path: Path) -> None:
    study = write_selection(tmp_path, "http://127.0.0.1:9/v1")
    fields = yaml.safe_load(study.read_text())
    fields["prompts"][1]["verbalizer"] = {"glad": ["yes"], "gloomy": ["no"]}
    study.write_text(yaml.safe_dump(fields))
    command = ("select", "prompts", str(study), "--target", str(write_texts(tmp_path)))
    refused = CliRunner().invoke(main, [*command, "--dry-run"])
    assert refused.exit_code == 1
    assert "choose among prompts for one task" in refused.output
    assert foretold(*command, "--prompt", "clear")


def test_models_that_answer_a_file_without_calls_are_steps_of_a_match(tmp_path: Path) -> None:
    study, texts = write_selection(tmp_path, "http://127.0.0.1:9/v1"), str(write_texts(tmp_path))
    fields = yaml.safe_load(study.read_text())
    fields["models"].append({"kind": "trained", "dataset": "*", "recipe": "tfidf"})
    study.write_text(yaml.safe_dump(fields))
    command = ("match", texts, "--ask", str(study))
    prompted = [step["state"] for step in foretold(*command) if step["calls"]]
    here = [step["subject"] for step in foretold(*command) if step["state"] == "answers here"]
    assert set(prompted) == {"to do"}
    assert here
    assert all(subject.startswith("tfidf/") for subject in here)
    told = CliRunner().invoke(main, [*command, "--dry-run", "--model", "tfidf/*"])
    assert told.exit_code == 0, told.output
    assert f"No LLM calls; {len(here)} models answer here." in told.output


def test_a_checks_calls_are_foretold_with_and_without_a_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LlmServer(answer) as server:
        study = str(write_study(tmp_path, server.base_url))
        first = sum(step["calls"] for step in foretold("drift", study))  # no key is needed for it
        assert server.n_requests == 0
        monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
        assert drift(study, return_state=True).is_completed()
        assert server.n_requests == first
        assert sum(step["calls"] for step in foretold("drift", study)) == first / 6
        assert sum(step["calls"] for step in foretold("drift", study, "--wire")) == 2 * 10
        assert sum(step["calls"] for step in foretold("drift", study, "--renew")) == first
