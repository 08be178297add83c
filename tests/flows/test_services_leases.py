"""A run that ends with its worker and the server, as when a machine is stopped, does not keep the next one waiting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.services import Ports, services
from tests.conftest import REPOSITORY
from tests.processes import ASK_S, free_port, until

pytestmark = pytest.mark.slow

FLOW = '''
import os, time
from pathlib import Path
from prefect import flow

here = Path(__file__).parent

@flow
def waits():
    """Until a file says go, it never ends."""
    (here / "process").write_text(str(os.getpid()))
    while not (here / "go").exists():
        time.sleep(0.1)
'''


def test_the_next_run_of_a_deployment_starts_after_one_that_ended_with_all_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_DATABASE_CONNECTION_URL", raising=False)
    for name, value in (
        ("PREFECT_HOME", str(tmp_path / "prefect")),
        # Prefect looks more often than it does otherwise; what it looks for is as it is.
        ("PREFECT_WORKER_QUERY_SECONDS", "2"),
        ("PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS", "2"),
        ("PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS", "5"),
    ):
        monkeypatch.setenv(name, value)
    here = tmp_path / "fute"
    here.mkdir()
    (here / "deploy").symlink_to(REPOSITORY / "deploy")
    (here / "waits.py").write_text(FLOW)
    content = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    (nightly,) = (each for each in content["deployments"] if each["name"] == "nightly")
    content["deployments"] = [{**nightly, "entrypoint": "waits.py:waits", "parameters": {}, "schedules": []}]
    (here / "prefect.yaml").write_text(yaml.safe_dump(content))
    ports = Ports(prefect=free_port())

    def ask(method: str, path: str, **more: Any) -> Any:
        return httpx.request(method, ports.api_url + path, timeout=60, **more).raise_for_status().json()

    def run() -> str:
        deployment = ask("GET", "/deployments/name/waits/nightly")
        return str(ask("POST", f"/deployments/{deployment['id']}/create_flow_run", json={})["id"])

    def state(run: str) -> Any:
        return ask("GET", f"/flow_runs/{run}")["state"]

    with services(here, tmp_path / "store", ports, with_mlflow=False):
        ended = run()
        until((here / "process").exists, "the start of the first run")
    process = (here / "process").read_text()
    until(lambda: not Path(f"/proc/{process}").exists(), "the end of the first run, with its worker")

    with services(here, tmp_path / "store", ports, with_mlflow=False):
        (limit,) = ask("POST", "/v2/concurrency_limits/filter", json={})
        assert (limit["limit"], limit["active_slots"], state(ended)["name"]) == (1, 1, "Running")
        # What a run that is still there asks for every few minutes, and ends if it is refused; here for the shortest
        # time that may be asked for, and by a run that is not there.
        lease = state(ended)["state_details"]["deployment_concurrency_lease_id"]
        renewed = httpx.post(f"{ports.api_url}/v2/concurrency_limits/leases/{lease}/renew", timeout=60,
                             json={"lease_duration": 60})  # fmt: skip
        assert renewed.status_code == 204, renewed.text
        (here / "go").touch()
        following = run()
        until(lambda: state(following)["name"] == "AwaitingConcurrencySlot", "a run that waits for the slot", ASK_S)
        until(lambda: state(following)["name"] == "Completed", "the run that waited", ASK_S)
