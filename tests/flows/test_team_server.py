"""The team server of compose.yaml: its processes, started directly with the commands and settings that stand there.

What a container engine would add (images, volumes, the network between containers) is not tested here.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
import yaml

from flows.embed import embed
from flows.services import command, end, wait_until_up
from tests.conftest import REPOSITORY
from tests.flows.embeddings import assert_same, subjects, vectors
from tests.flows.small_study import write_small_study
from tests.postgres import PASSWORD, USER, postgres, programs
from tests.processes import ASK_S, free_ports
from tests.processes import until as reached

pytestmark = pytest.mark.slow

until = partial(reached, every_s=ASK_S)
SERVICES = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
SLOW = '''

def slow(texts, pairs):
    """Until a file says go, it never ends."""
    open(os.environ["FUTE_TEST_CALLS"] + ".slow", "a").close()
    while not os.path.exists(os.environ["FUTE_TEST_CALLS"] + ".go"):
        __import__("time").sleep(0.1)
    return counted(texts, pairs)
'''


@dataclass
class Team:
    api: httpx.Client
    environment: dict[str, str]
    mlflow_uri: str
    databases: str
    calls: Path

    @property
    def started(self) -> Path:
        """Is there once a model that is slow has been asked."""
        return Path(f"{self.calls}.slow")

    @property
    def go(self) -> Path:
        """Lets it end."""
        return Path(f"{self.calls}.go")

    def nothing_asked_yet(self) -> None:
        for file in (self.calls, self.started, self.go):
            file.unlink(missing_ok=True)

    def change(self, path: str, **fields: Any) -> None:
        """As the UI does, or a command of `prefect`."""
        self.api.patch(path, json=fields).raise_for_status()

    def run(self, deployment: str, **parameters: Any) -> str:
        """Ask for a run, as the UI does; its id."""
        flow, _, name = deployment.partition("/")
        found = self.api.get(f"/deployments/name/{flow}/{name}").raise_for_status().json()
        made = self.api.post(f"/deployments/{found['id']}/create_flow_run", json={"parameters": parameters})
        return str(made.raise_for_status().json()["id"])

    def state(self, run: str) -> str:
        return str(self.api.get(f"/flow_runs/{run}").raise_for_status().json()["state"]["name"])

    def wait(self, run: str, state: str) -> None:
        until(lambda: self.state(run) == state, lambda: f"run {run} is {self.state(run)}, not {state}")


def here(text: str, ports: dict[str, int]) -> str:
    """A setting of compose.yaml for this machine: other addresses, and a password that is not in the environment."""
    text = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text)  # what nobody has set
    for name, port in ports.items():
        number = {"postgres": 5432, "prefect": 4200, "mlflow": 5000}[name]
        text = re.sub(rf"\b{name}:{number}\b", f"127.0.0.1:{port}", text)
        text = re.sub(rf"^{number}$", str(port), text)
    return text.replace("${POSTGRES_PASSWORD}", PASSWORD).replace("0.0.0.0", "127.0.0.1")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    binaries = programs()
    if binaries is None:
        pytest.skip("no PostgreSQL: the programs initdb and postgres are not installed (apt-get install postgresql)")
    folder = tmp_path_factory.mktemp("team")
    ports = dict(zip(("postgres", "prefect", "mlflow"), free_ports(3), strict=True))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    clean |= {"PREFECT_HOME": str(folder / "prefect"), "FUTE_TEST_CALLS": str(folder / "calls.txt"),
              "PWD": str(REPOSITORY), "PREFECT_WORKER_QUERY_SECONDS": "2"}  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []

    def environment(service: str) -> dict[str, str]:
        set_there = {k: here(v, ports) for k, v in SERVICES[service].get("environment", {}).items()}
        if service == "prefect":
            set_there |= {"PREFECT_HOME": clean["PREFECT_HOME"]}
        if service == "mlflow":
            set_there |= {"MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
                          "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{ports['mlflow']}"}  # fmt: skip
        return clean | set_there

    def start(service: str, *more: str) -> subprocess.Popen[bytes]:
        program, *arguments = (here(word, ports) for word in SERVICES[service]["command"])
        words = [command(program), *arguments, *more]
        with (folder / f"{service}.log").open("ab") as log:
            started.append(subprocess.Popen(words, env=environment(service), cwd=REPOSITORY, start_new_session=True,
                                            stdout=log, stderr=log))  # fmt: skip
        return started[-1]

    with postgres(binaries, ports["postgres"]):
        databases = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{ports['postgres']}"
        prepared = (REPOSITORY / "deploy" / "databases.sql").read_text()
        psql(binaries, f"{databases}/prefect", prepared)
        try:
            tracking, server = start("mlflow", "--workers", "1"), start("prefect")
            wait_until_up(f"http://127.0.0.1:{ports['prefect']}/api/health", server)
            register = [here(word, ports) for word in SERVICES["register"]["command"]]
            paths = {"PATH": f"{Path(command('prefect')).parent}{os.pathsep}{os.environ['PATH']}"}
            done = subprocess.run(register, env=environment("register") | paths, cwd=REPOSITORY, capture_output=True,
                                  text=True, check=False)  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            for name in ("one", "two"):
                start("worker", "--name", name)
            wait_until_up(f"http://127.0.0.1:{ports['mlflow']}/health", tracking)
            with httpx.Client(base_url=f"http://127.0.0.1:{ports['prefect']}/api", timeout=60) as api:
                yield Team(api, environment("register"), f"http://127.0.0.1:{ports['mlflow']}", databases,
                           folder / "calls.txt")  # fmt: skip
        finally:
            for process in reversed(started):
                end(process)


def psql(binaries: Path, database: str, query: str) -> str:
    return subprocess.run([str(binaries / "psql"), "-At", "-c", query, database], check=True, capture_output=True,
                          text=True).stdout.strip()  # fmt: skip


def write_slow_study(folder: Path, **overrides: Any) -> Path:
    """Trained models, one that answers at once, and one that answers when a file says go."""
    python = ({"kind": "python", "id": name, "entry_point": f"small_models:{name}"} for name in ("counted", "slow"))
    models = [{"kind": "trained", "dataset": "*", "recipe": "tfidf"}, *python]
    methods = [{"method": "crosscov", "components": 16}]
    study = write_small_study(folder, **{"models": models, "methods": methods, **overrides})
    with (folder / "small_models.py").open("a") as module:
        module.write(SLOW)
    return study


def test_two_workers_on_one_study_make_the_embeddings_of_one_process(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, alone = (write_slow_study(tmp_path / name) for name in ("team", "alone"))
    team.nothing_asked_yet()
    runs = [team.run("embed/adhoc", study=str(study)) for _ in range(2)]
    # Neither can end yet, and each worker takes one at a time: two that run are run by two workers, on one store.
    until(lambda: {team.state(run) for run in runs} == {"Running"}, lambda: str([team.state(run) for run in runs]))
    until(team.started.exists, lambda: "no model is asked")
    assert {team.state(run) for run in runs} == {"Running"}
    team.go.touch()
    monkeypatch.setenv("FUTE_TEST_CALLS", str(tmp_path / "calls.txt"))
    (tmp_path / "calls.txt.go").touch()
    assert embed(str(alone), return_state=True).is_completed()
    for run in runs:
        team.wait(run, "Completed")
    assert_same(vectors(study.parent / "store"), vectors(alone.parent / "store"), atol=1e-6)
    # Both are tracked on the MLflow server, with Prefect's ids; and both servers keep their records in PostgreSQL.
    client = mlflow.MlflowClient(tracking_uri=team.mlflow_uri)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    parents = client.search_runs([experiment.experiment_id], "tags.flow = 'embed'")
    assert {run.data.tags["prefect.flow_run_id"] for run in parents} == set(runs)
    binaries = programs()
    assert binaries is not None
    known = psql(binaries, f"{team.databases}/prefect", "SELECT count(*) FROM flow_run WHERE state_type = 'COMPLETED'")
    assert int(known) >= 2
    tracked = psql(binaries, f"{team.databases}/mlflow", "SELECT count(*) FROM runs WHERE status = 'FINISHED'")
    assert int(tracked) >= 2


def test_the_databases_are_dumped_and_brought_back_and_are_of_the_newest_schema(team: Team) -> None:
    binaries = programs()
    assert binaries is not None
    count = {"prefect": "SELECT count(*) FROM deployment", "mlflow": "SELECT count(*) FROM experiments"}
    for name, question in count.items():
        dump = subprocess.run([str(binaries / "pg_dump"), f"{team.databases}/{name}"], check=True, capture_output=True)
        subprocess.run([str(binaries / "createdb"), "--maintenance-db", f"{team.databases}/prefect", f"{name}_again"],
                       check=True)  # fmt: skip
        again = f"{team.databases}/{name}_again"
        subprocess.run([str(binaries / "psql"), "--quiet", "--set", "ON_ERROR_STOP=1", again], input=dump.stdout,
                       check=True, capture_output=True)  # fmt: skip
        told = psql(binaries, again, question)
        assert told == psql(binaries, f"{team.databases}/{name}", question) != "0"
    url = {"PREFECT_SERVER_DATABASE_CONNECTION_URL":
           f"{team.databases}/prefect_again".replace("postgresql", "postgresql+asyncpg", 1)}  # fmt: skip
    for words, more in (
        (["prefect", "server", "database", "upgrade", "--yes"], url),
        (["mlflow", "db", "upgrade", f"{team.databases}/mlflow_again"], {}),
    ):
        done = subprocess.run([command(words[0]), *words[1:]], env={**team.environment, **more}, capture_output=True,
                              text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_databases_that_docs_operate_md_makes_by_hand_belong_to_a_role_that_is_not_a_superuser(team: Team) -> None:
    binaries = programs()
    assert binaries is not None
    operate = (REPOSITORY / "docs" / "operate.md").read_text()
    (line,) = re.findall(r"^(createuser .*?)  +#", operate, re.MULTILINE)
    line = re.sub(r"\b(fute|prefect|mlflow)\b", r"hand_\1", line)  # beside those that are there
    port = team.databases.rpartition(":")[2]
    who_may = {"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": USER, "PGPASSWORD": PASSWORD, "PGDATABASE": "prefect"}
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    # Without a terminal, the password is asked for where the answers come from.
    done = subprocess.run(["sh", "-c", line], env={**os.environ, **who_may, "PATH": path}, input=f"{PASSWORD}\n" * 2,
                          capture_output=True, text=True, check=False, start_new_session=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    hand = f"//hand_fute:{PASSWORD}@127.0.0.1:{port}"
    assert psql(binaries, f"postgresql:{hand}/hand_mlflow", "SHOW is_superuser") == "off"
    psql(binaries, f"postgresql:{hand}/hand_mlflow", "CREATE TABLE of_mine (id int)")  # which not all may, in `public`
    url = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg:{hand}/hand_prefect"}
    done = subprocess.run([command("prefect"), "server", "database", "upgrade", "--yes"],
                          env={**team.environment, **url}, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert psql(binaries, f"postgresql:{hand}/hand_prefect", "SELECT count(*) FROM flow_run") == "0"


def test_the_server_makes_the_runs_that_the_schedules_ask_for(team: Team) -> None:
    listed = team.api.post("/deployments/filter", json={}).raise_for_status().json()
    written = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    assert {each["entrypoint"] for each in listed} == {each["entrypoint"] for each in written}

    def coming() -> set[str]:
        found = team.api.post("/flow_runs/filter", json={"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}})
        deployments = {run["deployment_id"] for run in found.raise_for_status().json() if run["auto_scheduled"]}
        return {team.api.get(f"/deployments/{each}").json()["name"] for each in deployments}

    until(lambda: coming() == {"nightly", "weekly"}, lambda: f"runs are coming of {coming()}")
    hourly = team.api.get("/deployments/name/drift/hourly").raise_for_status().json()  # off as shipped
    team.change(f"/deployments/{hourly['id']}/schedules/{hourly['schedules'][0]['id']}", active=True)
    until(lambda: coming() == {"nightly", "weekly", "hourly"}, lambda: f"runs are coming of {coming()}")


def test_a_paused_pool_waits_and_a_cancelled_run_leaves_the_store_whole(team: Team, tmp_path: Path) -> None:
    study = write_slow_study(tmp_path / "study", workers=1)  # one after the other
    team.nothing_asked_yet()

    team.change("/work_pools/fute", is_paused=True)
    run = team.run("embed/adhoc", study=str(study))
    time.sleep(6)  # a worker looks every 2 s here
    assert team.state(run) in ("Scheduled", "Late")
    team.change("/work_pools/fute", is_paused=False)
    until(team.started.exists, lambda: f"run {run} is {team.state(run)}, and asks no model")

    outputs = study.parent / "store" / "outputs"
    until(lambda: bool(list(outputs.glob("*/counted@*.parquet"))), lambda: f"nothing below {outputs}")
    cancelling = {"type": "CANCELLING", "name": "Cancelling"}
    team.api.post(f"/flow_runs/{run}/set_state", json={"state": cancelling}).raise_for_status()
    team.wait(run, "Cancelled")
    assert not vectors(study.parent / "store")
    team.go.touch()
    again = team.run("embed/adhoc", study=str(study))
    team.wait(again, "Completed")
    datasets = {"mood", "topic", "asks"}
    assert subjects(study.parent / "store") == {*datasets, *(f"tfidf/{name}" for name in datasets), "counted", "slow"}
    # Two lines: one of each model. What the cancelled run had asked was not asked again.
    assert len(team.calls.read_text().splitlines()) == 2
