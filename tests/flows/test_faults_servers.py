"""kill -9 of the MLflow server, the Prefect server and a worker while they are needed, and an MLflow that is away."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest

from flows.services import command, end, wait_until_up
from storage.tracker import GAP_TAG
from tests.conftest import REPOSITORY
from tests.flows.fork_runs import Forker, files_below
from tests.flows.quick_study import assert_same_store, log_of, write_quick_study
from tests.processes import alive, descendants, free_port, until

pytestmark = pytest.mark.slow

SEED = 8
MLFLOW_KILLS, PREFECT_KILLS = 2, 1
GAP = "not in MLflow, or only a part of it"


class Server:
    """A server on loopback that can be killed and started again at its port, with its data."""

    def __init__(self, arguments: list[str], health: str, env: dict[str, str]) -> None:
        self._arguments, self._health, self._env = arguments, health, env
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # In a process group of its own: what it starts dies with it.
        self._process = subprocess.Popen(self._arguments, env=self._env, cwd=REPOSITORY, start_new_session=True,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        if self._health:
            wait_until_up(self._health, self._process)

    def kill(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def kill_alone(self) -> None:
        """The process, and not what it has started."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_with_all_it_started(self) -> set[int]:
        """The process, and all below it, those too in groups of their own, as runs of a worker are; these groups."""
        assert self._process is not None
        groups = {os.getpgid(pid) for pid in descendants(self._process.pid)} - {self._process.pid}
        self.kill()
        for group in groups:
            os.killpg(group, signal.SIGKILL)
        return groups

    @contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            assert self._process is not None
            if self._process.poll() is None:
                end(self._process)


@pytest.fixture(scope="module")
def files(undisturbed: Path) -> int:
    """Written files after which a run is nearly done."""
    return int(0.8 * files_below(undisturbed.parent / "store"))


def test_a_run_goes_on_when_the_mlflow_server_is_killed_and_the_next_one_catches_up(
    tmp_path: Path, forker: Forker, undisturbed: Path, files: int
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = [command("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
                 "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db",
                 "--artifacts-destination", str(tmp_path / "artifacts")]  # fmt: skip
    server = Server(arguments, f"{url}/health", {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
    rng = random.Random(SEED)
    runs: list[Any] = []
    with server.running():
        for number in range(MLFLOW_KILLS):
            study = write_quick_study(tmp_path / f"study-{number}", name=f"study-{number}", tracking={"uri": url})
            forker.start_and_reach(study, rng.randint(1, files))
            server.kill()
            assert forker.wait() == 0, log_of(study)[-3000:]
            assert GAP in log_of(study)
            assert_same_store(study, undisturbed)
            server.start()
            assert forker.run(study) == 0, log_of(study)[-3000:]
            client = mlflow.MlflowClient(tracking_uri=url)
            runs += client.search_runs([client.get_experiment_by_name(study.parent.name).experiment_id])
    # Ended by the run itself, or by the next one from what the store knows. None counts as killed: none was.
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert any(GAP_TAG in run.data.tags for run in runs)


def test_a_run_without_its_tracking_server_completes_soon_and_says_what_is_missing(
    tmp_path: Path, forker: Forker, undisturbed: Path
) -> None:
    study = write_quick_study(tmp_path, tracking={"uri": f"http://127.0.0.1:{free_port()}"})
    started = time.perf_counter()
    assert forker.run(study) == 0, log_of(study)[-3000:]
    assert time.perf_counter() - started < 120  # MLflow's own patience would be minutes for each call
    assert GAP in log_of(study)
    assert_same_store(study, undisturbed)


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> tuple[Server, str, dict[str, str]]:
    """A Prefect server of its own, its API's address, and the environment of its clients."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    env = {**os.environ, "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")), "PREFECT_API_URL": url,
           "PWD": str(REPOSITORY), "FUTE_TEST_CALLS": "/dev/null"}  # fmt: skip
    env.pop("PREFECT_API_DATABASE_CONNECTION_URL", None)
    arguments = [command("prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    return Server(arguments, f"{url}/health", env), url, env


def test_a_run_whose_prefect_server_is_killed_and_started_again_ends_and_the_next_one_is_green(
    tmp_path: Path, prefect: tuple[Server, str, dict[str, str]], undisturbed: Path, files: int
) -> None:
    server, url, _ = prefect
    rng = random.Random(SEED)
    with Forker(url, tmp_path / "calls.txt") as forker, server.running():
        for number in range(PREFECT_KILLS):
            study = write_quick_study(tmp_path / str(number))
            forker.start_and_reach(study, rng.randint(1, files))
            server.kill()
            server.start()
            # Prefect's client asks again for about a minute, so that a run may go on; it must not hang in any case.
            assert forker.wait() in (0, 1), log_of(study)[-3000:]
            kept = written(study)
            assert kept
            assert forker.run(study) == 0, log_of(study)[-3000:]
            assert_same_store(study, undisturbed)
            assert kept.items() <= written(study).items()  # lost nothing, and did nothing of it again


def test_a_run_outlives_its_worker_and_a_run_killed_with_it_is_done_again(
    tmp_path: Path, prefect: tuple[Server, str, dict[str, str]], undisturbed: Path, files: int
) -> None:
    server, _, env = prefect
    rng = random.Random(SEED)
    worker = Server([command("prefect"), "worker", "start", "--pool", "faults"], "", env)

    def run(study: Path, *options: str) -> None:
        arguments = ["deployment", "run", "pipeline/faults", "--param", f"study={study}", *options]
        once(env, *arguments)

    with server.running():
        once(env, "work-pool", "create", "faults", "--type", "process")
        once(env, "--no-prompt", "deploy", "flows/pipeline.py:pipeline", "--name", "faults", "--pool", "faults")
        for with_its_run in (False, True):
            study = write_quick_study(tmp_path / str(with_its_run))
            store = study.parent / "store"
            writes = rng.randint(1, files)
            with worker.running():
                run(study)
                until(lambda: files_below(store) >= writes, f"{writes} files in {store}")  # noqa: B023
                if with_its_run:
                    groups = worker.kill_with_all_it_started()
                    assert groups
                    until(lambda: not alive(groups), f"the end of {groups}")  # noqa: B023
                    assert not (store / "runs").is_dir()  # which it writes last
                else:
                    worker.kill_alone()
                    until((store / "runs").is_dir, "the end of the run that lost its worker")
            with worker.running():
                run(study, "--watch")
            assert_same_store(study, undisturbed)


def once(env: dict[str, str], *arguments: str) -> None:
    done = subprocess.run([command("prefect"), *arguments], env=env, cwd=REPOSITORY, capture_output=True, text=True,
                          timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def written(study: Path) -> dict[Path, bytes]:
    """Files of the store that are never changed, with the time in each at which it was made."""
    store = study.parent / "store"
    folders = (store / name for name in ("datasets", "pools", "outputs", "embeddings"))
    return {file: file.read_bytes() for folder in folders for file in folder.rglob("*.parquet")}
