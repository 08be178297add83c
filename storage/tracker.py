"""MLflow: one run for each flow run, a nested run for each model.

Runs are named by id and never by the thread's active run, since tasks fan out over threads. A tracker that is down is
reported, not fatal: the store is the record. What MLflow missed of a run's end is caught up by the next run; its other
gaps stay, and are said.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from fute.errors import StoreError
from fute.json_text import json_text
from storage.files import Scratch

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

T = TypeVar("T")

PARAM_CHARS = 6000  # MLflow cuts longer ones
# MLflow's own patience is 7 retries with doubled waits, minutes for each call: a run would stand still for a server
# that is away. With 3 it bridges a restart of 15 s. Set beforehand, the environment's own values stay.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
GAP_TAG = "fute.gap"
PASSWORD = re.compile(r"//[^/@\s]*@")
QUOTED = 3  # characters of a part of a password from which it is looked for: one letter stands everywhere

HOST_TAG = "fute.host"
PROCESS_TAG = "fute.process"  # its number, and when it began: numbers are given again


def _process(pid: int) -> str:
    """A process, as told apart from a later one of the same number. Raises OSError when there is none."""
    stat = Path(f"/proc/{pid}/stat")
    if not Path("/proc/self/stat").exists():  # not Linux: the number alone
        os.kill(pid, 0)
        return str(pid)
    return f"{pid} {stat.read_text().rpartition(')')[2].split()[19]}"


def _is_alive(process: str) -> bool:
    pid = process.partition(" ")[0]
    if not pid.isdigit():
        return True  # written by another version: not ours to judge
    try:
        return _process(int(pid)) == process
    except PermissionError:
        return True
    except OSError:
        return False


def shown(uri: str) -> str:
    """Scheme, host, port and path of an address: a password may hold slashes, an @, or stand in the query."""
    scheme, slashes, rest = uri.partition("://")
    if "@" in rest.partition("?")[2]:  # of the query or of a password with a ? in it
        return f"{scheme}{slashes}..."
    place = rest.partition("?")[0]
    # Without a host, as in sqlite:///folder, an @ is one of the path.
    return f"{scheme}{slashes}{place if place.startswith('/') else place.rpartition('@')[2]}"


def without_secrets(text: str, uri: str) -> str:
    """An error that may quote an address or parts of it, without user, password and query."""
    text = text.replace(uri.rstrip("/"), shown(uri.rstrip("/")))
    rest = uri.partition("://")[2]
    user_info = "" if rest.startswith("/") else rest.rpartition("@")[0]
    password = user_info.partition(":")[2]
    values = re.findall(r"=([^&]+)", rest.partition("?")[2])
    secret = {user_info, password, *re.split(r"[/:@?#]", password), *values}
    for part in sorted(secret | {unquote(part) for part in secret}, key=len, reverse=True):
        if len(part) >= QUOTED:
            text = text.replace(part, "***")
    return PASSWORD.sub("//", text)  # of other addresses, such as a proxy's


TRACKING_FILE = "mlflow.db"


def default_uri(store: Path) -> str:
    """An SQLite file in the store; the path is absolute, for flows run from other folders.

    Raises:
        StoreError: the path has a character that ends the path of a database URL.
    """
    path = str((store / TRACKING_FILE).resolve())
    if "?" in path:
        raise StoreError(
            f"MLflow cannot keep its database at {path}: a '?' ends the path in its address; rename the folder, or set "
            "tracking.uri or tracking: {enabled: false}"
        )
    return f"sqlite:///{path}"


def make_whole(path: Path) -> None:
    """Make MLflow's SQLite file as a whole, unless it is there.

    MLflow makes its tables one after the other, in seconds, and takes a file that a kill has left half made for one of
    an older MLflow. So it is made beside its place, and linked into it unless another run was first.
    """
    if path.exists():
        return
    scratch = Scratch(path.parent)
    scratch.root.mkdir(parents=True, exist_ok=True)
    made = scratch.path()
    try:
        _make_tables(made)
        with suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink(missing_ok=True)


def find_artifacts_beside(path: Path, artifacts: Path) -> None:
    """Let a store's own database name its artifacts where they lie: the store may have been moved, or copied.

    MLflow writes their absolute place into each experiment and run, and has no call that changes it.
    """
    here = artifacts.resolve().as_uri()
    with closing(sqlite3.connect(path, timeout=30)) as db, db:
        found = db.execute("SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE 'file:%'")
        for (place,) in found.fetchall():
            if place != here and place.endswith(f"/{artifacts.name}"):
                db.execute("UPDATE experiments SET artifact_location = ?1 WHERE artifact_location = ?2", (here, place))
                db.execute(
                    "UPDATE runs SET artifact_uri = ?1 || substr(artifact_uri, length(?2) + 1) "
                    "WHERE substr(artifact_uri, 1, length(?2) + 1) = ?2 || '/'",
                    (here, place),
                )


def _make_tables(path: Path) -> None:
    import mlflow  # slow to import, and not needed when tracking is off

    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments(max_results=1)


class Tracker:
    """Runs of one experiment. Every method returns quietly when tracking is off or has failed before.

    Args:
        state_of: what the store knows of a flow run's end by the id of its Prefect run (Completed, ...), None while it
            knows nothing; for runs that ended while the server was away. Raises StoreError where it cannot tell.

    Attributes:
        gap: why MLflow lacks a part of what it was told, in words; None when it lacks nothing.
    """

    def __init__(
        self, uri: str | None, experiment: str, artifacts: Path, state_of: Callable[[str], str | None] | None = None
    ) -> None:
        self._client: MlflowClient | None = None
        self._state_of = state_of or (lambda _: None)
        self.gap: str | None = None
        self._experiment_id = ""
        self.uri = uri
        if uri is None:
            return
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        try:
            import mlflow

            if uri.startswith("sqlite:///") and not {"?", ":memory:"} & {*uri, uri.removeprefix("sqlite:///")}:
                make_whole(path := Path(uri.removeprefix("sqlite:///")))
                if path == artifacts.resolve().parent / TRACKING_FILE:
                    find_artifacts_beside(path, artifacts)
            client = mlflow.MlflowClient(tracking_uri=uri)
            location = artifacts.resolve().as_uri() if uri.startswith("sqlite:") else None
            self._experiment_id = _experiment(client, experiment, location)
            self._client = client
            self._end_abandoned()
        except Exception as exc:  # any fault of a tracking server or its database
            self._give_up(exc)

    def _give_up(self, exc: Exception) -> None:
        # MLFLOW_TRACKING_URI may hold a password, and an error may quote it.
        uri = str(self.uri)
        place = shown(uri)
        log.warning(
            "MLflow at %s does not work (%s: %s); the run goes on without tracking",
            place,
            type(exc).__name__,
            without_secrets(str(exc), uri),
        )
        self.gap = f"{place}: {type(exc).__name__}"
        self._client = None

    def _end_abandoned(self) -> None:
        """End the runs of processes that have ended on this machine without telling; nobody else ever will.

        Those that the store knows the end of ran to it while the server was away; the others were killed.
        """
        assert self._client is not None
        running = self._client.search_runs(
            [self._experiment_id], f"attributes.status = 'RUNNING' AND tags.`{HOST_TAG}` = '{socket.gethostname()}'"
        )
        for run in running:
            if _is_alive(run.data.tags.get(PROCESS_TAG, "")):
                continue
            try:
                state = self._state_of(run.data.tags.get("prefect.flow_run_id", ""))
            except StoreError as exc:  # how it ended is not known, so nothing is said of it
                log.warning("MLflow run %s was left as RUNNING: %s", run.info.run_id, exc)
                continue
            if state is None:
                self._client.set_terminated(run.info.run_id, "KILLED")
            else:
                self._client.set_tag(
                    run.info.run_id, GAP_TAG, f"ended unseen as {state}; the store has what is missing"
                )
                self._client.set_terminated(run.info.run_id, "FINISHED" if state == "Completed" else "FAILED")

    def _tell(self, step: Callable[[MlflowClient], T]) -> T | None:
        """Take a step with MLflow. Its first fault is its last: the run goes on without it."""
        if self._client is None:
            return None
        try:
            return step(self._client)
        except Exception as exc:
            self._give_up(exc)
            return None

    def start(
        self,
        name: str,
        *,
        parent: str | None = None,
        tags: Mapping[str, str | None] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> str | None:
        """Start a run and return its id (None when tracking is off)."""
        all_tags = {k: v for k, v in (tags or {}).items() if v}
        all_tags |= {HOST_TAG: socket.gethostname(), PROCESS_TAG: _process(os.getpid())}
        if parent is not None:
            all_tags["mlflow.parentRunId"] = parent

        def step(client: MlflowClient) -> str:
            from mlflow.entities import Param

            run_id: str = client.create_run(self._experiment_id, run_name=name, tags=all_tags).info.run_id
            entries = [Param(k, str(v)[:PARAM_CHARS]) for k, v in (params or {}).items()]
            for i in range(0, len(entries), 100):
                client.log_batch(run_id, params=entries[i : i + 100])
            return run_id

        return self._tell(step)

    def metrics(self, run_id: str | None, values: Mapping[str, float]) -> None:
        if run_id is None or not values:
            return

        def step(client: MlflowClient) -> None:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            client.log_batch(run_id, metrics=[Metric(k, float(v), now, 0) for k, v in values.items()])

        self._tell(step)

    def dataset(
        self, run_id: str | None, name: str, digest: str, source: Mapping[str, Any], profile: Mapping[str, Any]
    ) -> None:
        """Record a dataset as an input of the run."""
        if run_id is None:
            return

        def step(client: MlflowClient) -> None:
            from mlflow.entities import Dataset, DatasetInput

            told = {"source": json_text(dict(source)), "profile": json_text(dict(profile))}
            client.log_inputs(run_id, [DatasetInput(Dataset(name, digest, "fute", **told), [])])

        self._tell(step)

    def artifact(self, run_id: str | None, path: Path) -> None:
        if run_id is not None:
            self._tell(lambda client: client.log_artifact(run_id, str(path)))

    def text(self, run_id: str | None, text: str, file: str) -> None:
        if run_id is not None:
            self._tell(lambda client: client.log_text(run_id, text, file))

    def end(self, run_id: str | None, *, failed: bool = False, killed: bool = False) -> None:
        state = "KILLED" if killed else "FAILED" if failed else "FINISHED"
        if run_id is not None:
            self._tell(lambda client: client.set_terminated(run_id, state))

    def address_of(self, run_id: str | None, file: str) -> str | None:
        """Where a browser shows an artifact of a run; None without a tracking server, which alone has a page for it."""
        if self._client is None or run_id is None or not str(self.uri).startswith(("http://", "https://")):
            return None
        server = shown(str(self.uri)).rstrip("/")
        return f"{server}/#/experiments/{self._experiment_id}/runs/{run_id}/artifacts/{file}"


def _experiment(client: MlflowClient, name: str, location: str | None) -> str:
    """The id of an experiment, made if need be; of several runs that begin at once one makes it, and all find it."""
    if (known := client.get_experiment_by_name(name)) is not None:
        return str(known.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except Exception:
        if (known := client.get_experiment_by_name(name)) is None:  # not another run's doing
            raise
        return str(known.experiment_id)
