"""`fute up`: what it refuses, how it ends when a service does, and what an operator has set stays when it registers."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.services import Ports, ServiceError, Services, command, end, once, services
from tests.conftest import REPOSITORY
from tests.processes import alive, descendants, free_port, processes, until

pytestmark = pytest.mark.slow

SCHEDULED = ("pipeline/nightly", "drift/hourly", "maintain/weekly")


def scheduled_only(folder: Path) -> Path:
    """As a checkout, with those deployments only that have a schedule, which is quick."""
    folder.mkdir()
    for name in ("flows", "deploy"):
        (folder / name).symlink_to(REPOSITORY / name)
    content = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    content["deployments"] = [each for each in content["deployments"] if each.get("schedules")]
    (folder / "prefect.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_a_port_that_another_server_has_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServiceError, match=f"port {port} is taken.*--port"),
            services(tmp_path, tmp_path / "store", Ports(prefect=port)),
        ):
            pass
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("script", "told"), [("exit 3", "ended with status 3"), ("kill -9 $$", "killed by SIGKILL")])
def test_the_service_that_ends_is_named_and_how_it_ended(script: str, told: str) -> None:
    stays = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        ends = subprocess.Popen(["sh", "-c", script])
        with pytest.raises(ServiceError, match=rf"^the one that ends \(process {ends.pid}\).*{told}"):
            Services({}, {"the one that stays": stays, "the one that ends": ends}).watch()
        assert stays.poll() is None
    finally:
        end(stays)


def test_up_ends_with_an_error_and_all_that_it_started_when_its_worker_dies(tmp_path: Path) -> None:
    here = scheduled_only(tmp_path / "fute")
    ports = free_port(), free_port(), free_port()
    env = {k: v for k, v in os.environ.items() if k != "PREFECT_API_DATABASE_CONNECTION_URL"}
    with (tmp_path / "log").open("wb") as log:
        up = subprocess.Popen(
            [command("fute"), "up", "--port", str(ports[0]), "--mlflow-port", str(ports[1]),
             "--pages-port", str(ports[2]), "--store", "store"],
            cwd=here, env={**env, "PREFECT_HOME": str(tmp_path / "prefect")}, stdout=log, stderr=log,
        )  # fmt: skip
    said = (tmp_path / "log").read_text
    try:
        until(lambda: "Ctrl-C ends all" in said() or up.poll() is not None, "the start of all")
        assert up.poll() is None, said()
        started = [pid for pid, parent, _ in processes() if parent == up.pid]
        (worker,) = (pid for pid in started if b"worker\0start" in Path(f"/proc/{pid}/cmdline").read_bytes())
        groups = {os.getpgid(pid) for pid in descendants(up.pid)} - {os.getpgid(up.pid)}
        assert set(started) <= groups
        os.kill(worker, signal.SIGKILL)
        assert up.wait(timeout=60) == 1
    finally:
        if up.poll() is None:
            up.send_signal(signal.SIGTERM)
            up.wait(timeout=60)
    assert re.search(rf"^error: the Prefect worker \(process {worker}\) was killed by SIGKILL", said(), re.MULTILINE)
    assert not alive(groups)


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
