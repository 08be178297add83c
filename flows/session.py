"""One flow run over one study: checked first, tracked in MLflow, closed with a record of what failed.

A stage that the pipeline calls is given the pipeline's Run and works under it; a stage that runs alone opens its own.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Failed, State
from pydantic import ValidationError

from flows.runners import runner_name, tasks_run_by
from flows.temporary_server import tie_to_this_process
from fute import stopping
from fute.check_study import check_study
from fute.config import EndpointConfig, Study
from fute.errors import ConfigError
from fute.expand import expand_models
from fute.llm.client import service_of
from fute.load_study import load_study
from storage.store import Store, to_json
from storage.tracker import Tracker, default_uri
from tasks import resources
from tasks.run import Failure, Run

log = logging.getLogger(__name__)

CODE_FAULTS = "CompletedWithFailures"
INTERRUPTED = "Interrupted"
# Ctrl-C or SIGTERM under our command line (Stopped), Ctrl-C in a notebook, the cancelling of a deployment's run.
INTERRUPTS = (stopping.Stopped, KeyboardInterrupt, TerminationSignal)
POLL_S = 0.5

tie_to_this_process()  # here, for every flow imports this


@dataclass
class Session:
    """An open run."""

    study: Study
    flow: str
    run: Run
    tracker: Tracker
    owner: bool
    """Whether this flow opened the run, and so closes it."""
    started: float = field(default_factory=time.perf_counter)
    failures: list[Failure] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    spaces: list[str] = field(default_factory=list)
    report: str | None = None
    closing: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and log its seconds."""
        stopping.check()
        started = time.perf_counter()
        yield
        self.tracker.metrics(self.run.run_id, {f"seconds_{name}": time.perf_counter() - started})

    def end_state(self, result: Any) -> Any:
        """The flow's result; when something failed and this flow owns the run, a state that is not green."""
        if not self.failures or not self.owner:
            return result
        listed = "; ".join(f"{f.subject} ({f.stage}): {f.reason}" for f in self.failures)
        return failed_state(f"{len(self.failures)} failed: {listed}")


def failed_state(message: str) -> State[Any]:
    """Everything else is done and stored, but the run is not green."""
    return Failed(name=CODE_FAULTS, message=message)


@contextmanager
def open_session(path: str, flow: str, run: Run | None, base_urls: dict[str, str] | None = None) -> Iterator[Session]:
    """Load and check the study, and open a run unless one is given."""
    global _owner
    stopping.check()
    study = load_study(path)
    if base_urls:
        study = with_base_urls(study, base_urls)
    if run is None:
        check_study(study)
    store = Store(study.store_address).pull()
    named = study.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    uri = (named or default_uri(store.root)) if study.tracking.enabled else None
    tracker = Tracker(uri, study.tracking.experiment or study.name, store.root / "mlruns", store.run_state)
    owner = run is None
    if run is None:
        flow_run_id = flow_run.id
        run_id = tracker.start(
            flow_run.name or flow,
            tags={"flow": flow, "study": study.name, "prefect.flow_run_id": flow_run_id},
            params={
                "study": study.name,
                "store": store.address,
                "seed": study.seed,
                "surrogate": study.surrogate.model,
                "methods": ", ".join(m.method for m in study.methods),
                "datasets": len(study.datasets),
                "models": len(expand_models(study)),
            },
        )
        run = Run(study=study.name, store=store.address, base_dir=str(study.base_dir), seed=study.seed,
                  run_id=run_id, flow_run_id=flow_run_id, scattered=runner_name(study) != "threads")  # fmt: skip
        tracker.text(run_id, json.dumps(study.model_dump(mode="json"), indent=2, ensure_ascii=False), "study.json")
    session = Session(study, flow, run, tracker, owner)
    if owner:
        _owner = session
    try:
        with tasks_run_by(study):
            try:
                yield session
            except INTERRUPTS:
                stopping.stop()  # within the runner, which waits for the tasks that are at work
                if session.run.scattered:
                    session.run.stop_sign.parent.mkdir(parents=True, exist_ok=True)
                    session.run.stop_sign.touch()
                raise
    except BaseException as exc:
        if owner:
            close(session, INTERRUPTED if isinstance(exc, INTERRUPTS) else f"Failed: {type(exc).__name__}")
        raise
    finally:
        if owner:
            stopping.reset()
    if owner:
        close(session, CODE_FAULTS if session.failures else "Completed")


_owner: Session | None = None
"""The session of this process' run."""


def close_interrupted() -> None:
    """Close the run of this process from another thread than the flow's, which is held up."""
    if _owner is not None:
        close(_owner, INTERRUPTED)


def close(session: Session, state: str) -> None:
    """Write the run's record, once, and end it in MLflow whatever becomes of that."""
    if not session.closing.acquire(blocking=False):
        return
    seconds = time.perf_counter() - session.started
    row = {
        "study": session.study.name,
        "flow": session.flow,
        "state": state,
        "seconds": seconds,
        "spaces": session.spaces,
        "failures": to_json([f.model_dump() for f in session.failures]),
        "settings": to_json(session.study.model_dump(mode="json")),
        "report": session.report,
    }
    try:
        store = session.run.open_store()
        # However the run ended: what was paid for is then on object storage too, where the store is there.
        resources.response_store(store).export()
        store.put_run(row, session.run.stamp)
    finally:
        session.tracker.metrics(
            session.run.run_id, {"seconds": seconds, "failures": len(session.failures), **session.metrics}
        )
        session.tracker.end(session.run.run_id, failed=state != "Completed", killed=state == INTERRUPTED)
    if session.tracker.gap is not None:
        log.warning("this run is not in MLflow, or only a part of it (%s); the store has all of it",
                    session.tracker.gap)  # fmt: skip


def with_base_urls(study: Study, base_urls: dict[str, str]) -> Study:
    """The study with other addresses for some endpoints: the same service, moved.

    Raises:
        ConfigError: there is no such endpoint, or this is no address for one.
    """
    unknown = sorted(set(base_urls) - {e.id for e in study.endpoints})
    if unknown:
        known = ", ".join(e.id for e in study.endpoints) or "none"
        raise ConfigError(f"base_urls: no endpoint {unknown[0]!r} in study {study.name}; there are: {known}")
    endpoints = [_moved(e, base_urls[e.id]) if e.id in base_urls else e for e in study.endpoints]
    return study.model_copy(update={"endpoints": endpoints})


def _moved(endpoint: EndpointConfig, base_url: str) -> EndpointConfig:
    fields = {**endpoint.model_dump(), "base_url": base_url, "service": service_of(endpoint)}
    try:
        return EndpointConfig.model_validate(fields)
    except ValidationError as exc:
        # Without the address: what should not be in it may be a password.
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'base_url'}: {e['msg']}" for e in exc.errors())
    raise ConfigError(
        f"base_urls: endpoint {endpoint.id}: {problems}; "
        "give an address like https://api.openai.com/v1, without user name, password or query"
    )


def settle(futures: Sequence[tuple[str, PrefectFuture[Any]]], stage: str) -> tuple[list[Any], list[Failure]]:
    """Wait for all futures; results of those that succeeded, and who failed with what reason.

    Raises:
        Stopped: the run is being stopped.
    """
    results, failures = [], []
    for subject, future in futures:
        _wait(future)
        state = future.state
        if state.is_completed():
            results.append(future.result())
            continue
        cause = state.result(raise_on_failure=False)
        reason = str(cause) if isinstance(cause, BaseException) else (state.message or state.name or "unknown")
        if isinstance(cause, BaseException) and not reason:
            reason = type(cause).__name__
        log.warning("%s of %s failed: %s", stage, subject, reason)
        failures.append(Failure(subject=subject, stage=stage, reason=reason))
    return results, failures


def _wait(future: PrefectFuture[Any]) -> None:
    """Wait for one, looking up now and then: tasks in other processes do not see that this one is being stopped."""
    future.wait(timeout=POLL_S)
    stopping.check()
    while not future.state.is_final():
        future.wait(timeout=POLL_S)
        stopping.check()
    future.wait()  # final at the server, it may still be on its way here
