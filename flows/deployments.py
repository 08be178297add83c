"""Deployments on a Prefect server, made without a repository: each flow for ad hoc runs, and studies by the clock."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker
from pydantic import ValidationError

from flows.ports import POOL, Ports, ServiceError
from fute.config import Study
from fute.errors import ConfigError

FLOWS = (
    "pipeline", "ingest", "surrogate", "embed", "unify", "report", "drift", "maintain", "transfer", "select_prompts",
)  # fmt: skip
"""Each a module of this package with a flow of its name."""
TAG = "fute-schedule"
ADHOC = "adhoc"


@dataclass(frozen=True)
class Scheduled:
    """A study by the clock: which flow of it, when, and when next as far as the server knows."""

    flow: str
    study: str
    file: str
    when: str
    active: bool
    next: str | None


@contextmanager
def prefect_server(url: str | None = None) -> Iterator[SyncPrefectClient]:
    """The server at an address; default: the one that Prefect's settings name, else where `fute up` puts it.

    Raises:
        ServiceError: it does not answer.
    """
    url = url or PREFECT_API_URL.value() or Ports().api_url
    with temporary_settings({PREFECT_API_URL: url}):
        try:
            httpx.get(f"{url}/health", timeout=10).raise_for_status()
        except httpx.HTTPError as exc:
            raise ServiceError(
                f"no Prefect server answers at {url} ({exc}); start one with `fute up`, or name one in PREFECT_API_URL"
            ) from exc
        with get_client(sync_client=True) as client:
            yield client


def register_flows(url: str, folder: Path) -> None:
    """The work pool, and a deployment of each flow for ad hoc runs, whose relative paths start at the folder."""
    with prefect_server(url) as client:
        make_pool(client)
        for name in FLOWS:
            _deploy(client, name, ADHOC, folder)


def make_pool(client: SyncPrefectClient) -> None:
    """The pool that workers take runs from; one that is there keeps its pause and its limit."""
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        with suppress(ObjectAlreadyExists):  # made meanwhile
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def schedule_study(
    client: SyncPrefectClient,
    study: Study,
    file: Path,
    flow: str,
    *,
    cron: str | None = None,
    every: timedelta | None = None,
    timezone: str = "UTC",
) -> list[str]:
    """Run a flow of a study by the clock, one run at a time; scheduled again, its times are the new ones.

    Returns:
        What was taken out: the same flow of the same file, scheduled under a name that the study had before.

    Raises:
        ConfigError: the times cannot be read, or another study of this name is scheduled.
    """
    try:
        when = (
            CronSchedule(cron=cron, timezone=timezone)
            if cron is not None
            else IntervalSchedule(interval=every or timedelta(), timezone=timezone)
        )
    except ValidationError as exc:
        why = exc.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{cron or every} in time zone {timezone} is no schedule: {why}") from exc
    for other in scheduled(client):
        same = _deployment_name(other.study) == _deployment_name(study.name)
        if same and other.flow == flow and other.file != str(file):
            raise ConfigError(
                f"a study called {study.name} is scheduled already, from {other.file}; give this one another `name`, "
                f"or take that one out: fute schedule {other.file} --remove"
            )
    make_pool(client)
    name = _deployment_name(study.name)
    _deploy(
        client,
        flow,
        name,
        file.parent,
        # By the clock the cheap look: it reads the panel itself where that is called for.
        parameters={"study": str(file), **({"wire": True} if flow == "drift" else {})},
        schedules=[DeploymentScheduleCreate(schedule=when, slug=TAG)],
        tags=[TAG, study.name],
        concurrency_limit=1,
    )
    former = [entry for of, entry in _deployments(client, file) if of == flow and entry.name != name]
    for entry in former:
        client.delete_deployment(entry.id)
    return [f"{flow}/{entry.name}" for entry in former]


def scheduled(client: SyncPrefectClient, file: Path | None = None) -> list[Scheduled]:
    """All that `schedule_study` made, or what it made of one study."""
    return [
        Scheduled(flow, _study(entry), entry.parameters["study"], _when(entry), _active(entry), _next(client, entry))
        for flow, entry in _deployments(client, file)
    ]


def unschedule(client: SyncPrefectClient, file: Path, flow: str | None = None) -> list[str]:
    """Take out what `schedule_study` made of a study, or of one flow of it; the names of what was taken out."""
    gone = [(name, entry) for name, entry in _deployments(client, file) if flow in (None, name)]
    for _, entry in gone:
        client.delete_deployment(entry.id)
    return [f"{name}/{entry.name}" for name, entry in gone]


def _deploy(client: SyncPrefectClient, name: str, deployment: str, folder: Path, **settings: Any) -> None:
    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    client.create_deployment(
        client.create_flow_from_name(flow.name),
        deployment,
        entrypoint=f"flows.{name}.{name}",  # of the installed package: no checkout is needed
        description=flow.description,
        parameter_openapi_schema=parameter_schema(flow).model_dump(exclude_unset=True),
        work_pool_name=POOL,
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}],
        **settings,
    )


def _deployments(client: SyncPrefectClient, file: Path | None) -> list[tuple[str, DeploymentResponse]]:
    ours = DeploymentFilter.model_validate({"tags": {"all_": [TAG]}})
    found = [
        (str(entry.entrypoint).rpartition(".")[2], entry)
        for entry in client.read_deployments(deployment_filter=ours)
        if file is None or entry.parameters.get("study") == str(file)
    ]
    return sorted(found, key=lambda pair: (pair[1].name, pair[0]))


def _deployment_name(study: str) -> str:
    return study.replace("/", "-")  # Prefect allows none in names


def _study(entry: DeploymentResponse) -> str:
    return next((tag for tag in entry.tags if tag != TAG), entry.name)


def _when(entry: DeploymentResponse) -> str:
    when = entry.schedules[0].schedule if entry.schedules else None
    if isinstance(when, CronSchedule):
        return f"{when.cron} ({when.timezone or 'UTC'})"
    return f"every {when.interval}".removesuffix(", 0:00:00") if isinstance(when, IntervalSchedule) else "never"


def _active(entry: DeploymentResponse) -> bool:
    return not entry.paused and any(each.active for each in entry.schedules)


def _next(client: SyncPrefectClient, entry: DeploymentResponse) -> str | None:
    scheduled_of = {"deployment_id": {"any_": [entry.id]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
    wanted = FlowRunFilter.model_validate(scheduled_of)
    runs = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, limit=1)
    return runs[0].expected_start_time.isoformat(" ", "minutes") if runs and runs[0].expected_start_time else None
