"""What the tasks of one process share: never two accounts for one budget, never one for two runs."""

from __future__ import annotations

from pathlib import Path

from fute.config import BudgetConfig, EndpointConfig
from fute.llm.budget import Spending
from storage.store import Store
from tasks import resources
from tasks.endpoints import accounts
from tasks.run import Run


def run_in(folder: Path) -> Run:
    return Run(study="s", store=str(folder), base_dir=str(folder), seed=0)


def endpoint(number: int) -> EndpointConfig:
    return EndpointConfig(
        id=f"e{number}", base_url="http://127.0.0.1:9/v1", model="m", budget=BudgetConfig(max_calls=5)
    )


def test_a_run_with_many_endpoints_keeps_every_account_and_its_ledger(tmp_path: Path) -> None:
    run, limits = run_in(tmp_path), BudgetConfig(max_calls=100)
    first = [accounts(run, endpoint(number), limits) for number in range(3 * resources.KEPT)]
    again = [accounts(run, endpoint(number), limits) for number in range(3 * resources.KEPT)]
    assert all(a is b for one, other in zip(first, again, strict=True) for a, b in zip(one, other, strict=True))
    ledger = resources.response_store(run.open_store())
    for number in range(3 * resources.KEPT):
        resources.response_store(Store(tmp_path / str(number)))
    assert resources.response_store(run.open_store()) is ledger


def test_runs_without_ids_have_a_budget_each_and_a_copied_run_has_its_own(tmp_path: Path) -> None:
    one, other = run_in(tmp_path), run_in(tmp_path)
    (spent,) = accounts(one, endpoint(0), BudgetConfig())
    assert spent.reserve(Spending(calls=5)) is None
    (same,) = accounts(Run.model_validate(one.model_dump()), endpoint(0), BudgetConfig())
    assert same.reserve(Spending(calls=1)) is not None
    (fresh,) = accounts(other, endpoint(0), BudgetConfig())
    assert fresh.reserve(Spending(calls=5)) is None
