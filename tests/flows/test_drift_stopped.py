"""A drift check that was stopped goes on, the same day, with the answers that it has paid for; a finished one never."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml

import tasks.watch
from flows.drift import drift
from storage import catalog
from tests.flows.test_prompted_study import CANARY, answer, write_study
from tests.llm_server import LlmServer

pytestmark = pytest.mark.slow

PANEL = 60  # calls of one asking: one prompt, the whole of a small pool
ASKINGS = 2  # of a baseline


def write_one(folder: Path, base_url: str, **endpoint: object) -> str:
    """A study of one prompt: of two, which is finished first within a budget would be chance."""
    path = write_study(folder, base_url, **endpoint)
    study = yaml.safe_load(path.read_text())
    del study["prompts"][1:]
    study["drift"] = {"askings": ASKINGS}
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return str(path)


def test_a_check_beyond_the_budget_is_finished_by_the_next_runs_of_that_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    store = tmp_path / "store"

    def run(server: LlmServer, max_calls: int, day: int) -> str:
        monkeypatch.setattr(tasks.watch, "today", lambda: date(2030, 1, day))
        study = write_one(tmp_path, server.base_url, budget={"max_calls": max_calls})
        return str(drift(study, return_state=True).name)

    with LlmServer(answer) as server:
        # The baseline, asked twice, takes two runs.
        assert run(server, 75, day=1) == "CompletedWithFailures"
        assert server.n_requests == 75
        assert run(server, 75, day=1) == "Completed"
        assert server.n_requests == 2 * PANEL
        # So does a check.
        assert run(server, 40, day=1) == "CompletedWithFailures"
        assert server.n_requests == 2 * PANEL + 40
        assert run(server, 40, day=1) == "Completed"
        assert server.n_requests == 3 * PANEL
        # But not by what a finished one was answered, though the day is the same, nor by what was answered another day.
        for day in (1, 2):
            assert run(server, 40, day) == "CompletedWithFailures"
        assert server.n_requests == 3 * PANEL + 2 * 40
        assert run(server, 40, day=2) == "Completed"
        assert server.n_requests == 4 * PANEL + 40
        # The clock goes back: first to the check that was stopped then, then to none.
        assert run(server, PANEL, day=1) == "Completed"
        assert server.n_requests == 5 * PANEL
        assert run(server, PANEL, day=1) == "Completed"
        assert server.n_requests == 6 * PANEL
    assert catalog.query(store, "SELECT count(*), bool_or(drifted) FROM drift").rows == [(4, False)]
    assert catalog.query(store, "SELECT count(DISTINCT baseline) FROM drift_baselines").rows == [(1,)]
