"""`fute up`: what it refuses before it starts, and how it ends when a service does."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from flows.services import Ports, ServiceError, Services, command, end, services
from tests.flows.test_deployments import free_port, scheduled_only
from tests.flows.test_faults_servers import alive, descendants, processes, until

pytestmark = pytest.mark.slow


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
        (worker,) = (pid for pid in started if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
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
