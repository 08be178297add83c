"""A budget that is too small: the run says so, keeps what it has, and the same command goes on from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import main
from flows.pipeline import pipeline
from storage import catalog
from tests.flows.test_prompted_study import CANARY, answer, write_study
from tests.llm_server import LlmServer

pytestmark = pytest.mark.slow

PRICES = {"usd_per_million_tokens_in": 1000.0, "usd_per_million_tokens_out": 2000.0}


def test_a_run_stops_at_its_budget_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    store = tmp_path / "store"
    with LlmServer(answer) as server:
        # 60 pool rows for each of two prompts; several workers and requests in flight share one account.
        study = write_study(tmp_path, server.base_url, budget={"max_calls": 70}, **PRICES)
        checked = CliRunner().invoke(main, ["check", str(study)])
        assert "LLM calls: 120, about " in checked.output
        assert "more than the budget of endpoint api allows (max_calls: 70)" in checked.output
        state = pipeline(str(study), return_state=True)
        assert state.name == "CompletedWithFailures"
        assert server.n_requests == 70
        assert "the budget of endpoint api is used up: 70 of 70 calls are made" in str(state.message)
        assert "run the same command again" in str(state.message)
        (row,) = catalog.query(
            store, "SELECT count(*), count(run_id), count(flow_run_id), min(cost_usd) > 0 FROM responses"
        ).rows
        assert row == (70, 70, 70, True)
        planned = json.loads(CliRunner().invoke(main, ["check", str(study), "--json"]).output)
        costs = [step["cost"] for step in planned if step["calls"]]
        assert sum(cost["calls"] for cost in costs) == 50
        assert costs[0]["basis"] == "tokens as in 70 kept answers of this model"
        assert pipeline(str(study), return_state=True).is_completed()
        assert server.n_requests == 120
    paid, tokens = catalog.query(
        store, "SELECT sum(cost_usd), sum(tokens_in * 1000 + tokens_out * 2000) / 1e6 FROM responses"
    ).rows[0]
    assert paid == pytest.approx(tokens)


def test_dollars_without_prices_are_refused_before_any_work(tmp_path: Path) -> None:
    study = write_study(tmp_path, "http://127.0.0.1:9/v1", budget={"max_usd": 1})
    result = CliRunner().invoke(main, ["check", str(study)])
    assert result.exit_code == 1
    assert "budget.max_usd: the prices of endpoint api are not known" in result.output
