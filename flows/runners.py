"""What runs the tasks of a study: threads of the flow's process, or Dask or Ray on one machine or many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, get_args

from prefect.context import FlowRunContext
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from fute.config import Study
from fute.errors import ConfigError

CHOICE = "FUTE_TASK_RUNNER"

_running: ContextVar[TaskRunner[Any] | None] = ContextVar("fute_task_runner", default=None)


def runner_name(study: Study) -> str:
    """threads, dask or ray: what the environment says, else the study.

    Raises:
        ConfigError: the environment names another.
    """
    known = get_args(Study.model_fields["task_runner"].annotation)
    name = os.environ.get(CHOICE) or study.task_runner
    if name not in known:
        raise ConfigError(f"{CHOICE} is {name!r}; set it to one of: {', '.join(known)}")
    return name


@contextmanager
def tasks_run_by(study: Study) -> Iterator[None]:
    """The tasks that the flow submits in this block are run as the study says; by what runs them already in a stage.

    Raises:
        ConfigError: the library of the runner is not installed.
    """
    context = FlowRunContext.get()
    assert context is not None, "called by flows only"
    with ExitStack() as stack:
        runner = _running.get()
        if runner is None:
            name = runner_name(study)
            if name != "threads" and not PREFECT_API_URL.value():
                # The temporary server of this process: tasks of other processes are to report to it as well.
                url = SubprocessASGIServer().api_url
                stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
            runner = stack.enter_context(_made(name, study.workers))
            token = _running.set(runner)
            stack.callback(_running.reset, token)
        stack.enter_context(context.model_copy(update={"task_runner": runner}))
        yield


def _made(name: str, workers: int) -> TaskRunner[Any]:
    """A runner that is not started. What it starts on this machine listens on loopback."""
    try:
        if name == "dask":
            from prefect_dask import DaskTaskRunner

            if address := os.environ.get("DASK_SCHEDULER_ADDRESS"):
                return DaskTaskRunner(address=address)
            # No threads in a worker: computing takes all cores by itself, or is for one at a time.
            local = {"n_workers": workers, "threads_per_worker": 1, "host": "127.0.0.1"}
            # Ctrl-C in a terminal goes to them as well, and would end them before an answer in flight is kept.
            ignoring = {"preload": ["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"]}
            return DaskTaskRunner(cluster_kwargs={**local, **ignoring, "dashboard_address": "127.0.0.1:0"})
        if name == "ray":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            from prefect_ray import RayTaskRunner

            if address := os.environ.get("RAY_ADDRESS"):
                return RayTaskRunner(address=address)
            local = {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
            return RayTaskRunner(init_kwargs=local)
    except ImportError as exc:
        raise ConfigError(
            f"task_runner {name} needs a library that is not here ({exc}); pip install 'fute[{name}]'"
        ) from exc
    return ThreadPoolTaskRunner(max_workers=workers)
