"""deploy/register.sh on a real server: what an operator paused or limited stays so, and a file of one's own counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.services import Ports, once, services
from tests.flows.test_deployments import free_port, scheduled_only

pytestmark = pytest.mark.slow

SCHEDULED = ("pipeline/nightly", "drift/hourly", "maintain/weekly")


def test_registering_again_keeps_pauses_and_limits_and_a_file_of_ones_own_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_DATABASE_CONNECTION_URL", raising=False)
    here = scheduled_only(tmp_path / "fute")
    (here / "studies").mkdir()
    deployments = yaml.safe_load((here / "prefect.yaml").read_text())
    with (
        services(here, tmp_path / "store", Ports(prefect=free_port()), with_mlflow=False) as running,
        httpx.Client(base_url=running.environment["PREFECT_API_URL"], timeout=120) as api,
    ):

        def deployed(name: str) -> Any:
            return api.get(f"/deployments/name/{name}").raise_for_status().json()

        def schedules() -> dict[str, tuple[str, bool]]:
            """The id of each, and whether it is active."""
            found = {name: deployed(name)["schedules"] for name in SCHEDULED}
            assert {len(each) for each in found.values()} == {1}
            return {name: (each[0]["id"], each[0]["active"]) for name, each in found.items()}

        def switch(name: str, active: bool) -> None:
            path = f"/deployments/{deployed(name)['id']}/schedules/{at_first[name][0]}"
            api.patch(path, json={"active": active}).raise_for_status()

        # Drift asks endpoints that cost money: as shipped it does not run by the clock.
        at_first = schedules()
        assert [at_first[name][1] for name in SCHEDULED] == [True, False, True]

        # What an operator does in the UI.
        api.patch("/work_pools/fute", json={"is_paused": True, "concurrency_limit": 3}).raise_for_status()
        switch("pipeline/nightly", False)
        switch("drift/hourly", True)
        # As docs/operate.md says: a copy with studies of one's own, without `active: false`.
        for deployment in deployments["deployments"]:
            deployment["parameters"]["study"] = "studies/mine.yaml"
            deployment["schedules"][0].pop("active", None)
        (here / "studies" / "prefect.yaml").write_text(yaml.safe_dump(deployments))
        once(running.environment, here, "sh", "deploy/register.sh")

        pool = api.get("/work_pools/fute").raise_for_status().json()
        assert (pool["is_paused"], pool["concurrency_limit"]) == (True, 3)
        now = schedules()
        assert [now[name][1] for name in SCHEDULED] == [False, True, True]
        assert [now[name][0] for name in SCHEDULED] == [at_first[name][0] for name in SCHEDULED]  # none made anew
        for name in SCHEDULED:
            wire = {"wire": True} if name == "drift/hourly" else {}
            assert deployed(name)["parameters"] == {"study": "studies/mine.yaml", **wire}
            (step,) = deployed(name)["pull_steps"]
            assert step["prefect.deployments.steps.set_working_directory"]["directory"] == str(here)
