"""`fute up`: a Prefect server, a worker, the MLflow UI and what serves pages, on loopback, until one ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from flows.ports import POOL, Ports, ServiceError
from storage.tracker import TRACKING_FILE, default_uri, make_whole
from tasks import page_links

START_TIMEOUT_S = 180
WATCH_S = 1.0
# On disk, so that they outlive the server. In its memory, as Prefect has them otherwise, a run that ends with the
# server keeps its deployment's slot for ever, and one that outlives the server is ended for having lost its own.
LEASES = "prefect.server.concurrency.lease_storage.filesystem"


@dataclass(frozen=True)
class Services:
    """What runs, by name, and the environment in which `prefect` finds the server."""

    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]]

    def watch(self) -> NoReturn:
        """Wait until one of them ends.

        Raises:
            ServiceError: one has.
        """
        while True:
            for name, process in self.processes.items():
                status = process.poll()
                if status is not None:
                    how = (
                        f"ended with status {status}"
                        if status >= 0
                        else f"was killed by {signal.Signals(-status).name}"
                    )
                    raise ServiceError(
                        f"{name} (process {process.pid}) {how}; its last lines are above. "
                        "The others have been ended too: fix what it complains about, then start all again"
                    )
            time.sleep(WATCH_S)


def command(name: str) -> str:
    """A program of this environment, whether or not it is on the PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ServiceError(f"the program {name} is not installed beside {sys.executable}")
    return found


def environment(folder: Path, ports: Ports) -> dict[str, str]:
    """Settings for the services' processes. PWD is what prefect.yaml takes as the flows' working directory."""
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    programs = Path(command("prefect")).parent
    inherited = dict(os.environ)
    # `fute` keeps Prefect off its own console, where its progress is; a worker's console has no other.
    inherited.pop("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", None)
    return {
        **inherited,
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # where deploy/register.sh finds prefect
        "PWD": str(folder),
        "PREFECT_API_URL": ports.api_url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # evaluations by LLMs, which fute has none of, in nine processes
        page_links.FOLDER: str(home.resolve() / "fute-pages"),  # links in the server's database outlive this process
        page_links.ADDRESS: ports.pages_url,
    }


@contextmanager
def services(folder: Path, store: Path, ports: Ports, *, with_mlflow: bool = True) -> Iterator[Services]:
    """Start everything, yield it, and end it all.

    Args:
        folder: where relative paths of runs start. What a checkout of fute deploys there is in its prefect.yaml; from
            any other folder each flow can be run ad hoc, and `fute schedule` does the rest.
        with_mlflow: start the MLflow UI, and what serves pages.

    Raises:
        ServiceError: a service did not come up; what it printed is in the message.
    """
    require_free(ports.prefect, "--port")
    if with_mlflow:
        require_free(ports.mlflow, "--mlflow-port")
        require_free(ports.pages, "--pages-port")
    env = environment(folder, ports)
    started: dict[str, subprocess.Popen[bytes]] = {}

    def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
        # Each in a process group of its own, so that the processes which it starts end with it.
        started[name] = subprocess.Popen(arguments, env=env, cwd=folder, start_new_session=True)
        return started[name]

    try:
        serving = f"server start --host 127.0.0.1 --port {ports.prefect}".split()
        server = start("the Prefect server", command("prefect"), *serving)
        wait_until_up(f"{ports.api_url}/health", server)
        if is_checkout(folder):
            once(env, folder, "sh", "deploy/register.sh")
        else:
            from flows.deployments import register_flows

            register_flows(ports.api_url, folder)
        start("the Prefect worker", command("prefect"), "worker", "start", "--pool", POOL)
        if with_mlflow:
            make_whole(store / TRACKING_FILE)  # MLflow's own server would make it in its place
            serving = f"ui --workers 1 --host 127.0.0.1 --port {ports.mlflow} --backend-store-uri".split()
            ui = start("the MLflow UI", command("mlflow"), *serving, default_uri(store))
            wait_until_up(f"http://127.0.0.1:{ports.mlflow}/health", ui)
            Path(env[page_links.FOLDER]).mkdir(parents=True, exist_ok=True)
            serving = f"-P -m flows.page_server --host 127.0.0.1 --port {ports.pages} --folder".split()
            start("the page server", sys.executable, *serving, env[page_links.FOLDER])
        yield Services(env, started)
    finally:
        for process in reversed(started.values()):
            end(process)


def is_checkout(folder: Path) -> bool:
    """Whether it is one of fute: other projects may have a deploy/register.sh too, which is not ours to run."""
    deployments = folder / "prefect.yaml"
    of_fute = deployments.is_file() and "name: fute" in deployments.read_text(errors="replace").splitlines()
    return of_fute and (folder / "deploy" / "register.sh").is_file()


def require_free(port: int, option: str) -> None:
    """Refuse a port that another server has: its health check would answer for ours, and it would get our deployments.

    Raises:
        ServiceError: the port is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise ServiceError(
                f"port {port} is taken ({exc.strerror}); end what listens there or give {option}"
            ) from exc


def once(env: dict[str, str], cwd: Path, *arguments: str) -> None:
    """Run one command to its end."""
    done = subprocess.run(arguments, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServiceError(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServiceError(
                f"{process.args!r} ended with {process.returncode} before {url} answered; is the port taken?"
            )
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.5)
    raise ServiceError(f"{url} did not answer within {START_TIMEOUT_S} s")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a service and the processes that it started: politely, then firmly."""
    for sign, patience_s in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            continue
        return
