"""One flow run over one study: checked first, tracked in MLflow, closed with a record of what failed.

A stage that the pipeline calls is given the pipeline's Run and works under it; a stage that runs alone opens its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Failed, State

from flows.base_urls import with_base_urls
from flows.run_record import CODE_FAULTS, INTERRUPTED, RunRecord, start_run, tracker_of
from flows.runners import runner_name, tasks_run_by
from flows.temporary_server import tie_to_this_process
from fute import stopping
from fute.check_study import check_study
from fute.did_you_mean import listed
from fute.load_study import load_study
from storage.store import Store
from tasks import resources
from tasks.run import Failure, Run

log = logging.getLogger(__name__)

# Ctrl-C or SIGTERM under our command line (Stopped), Ctrl-C in a notebook, the cancelling of a deployment's run.
INTERRUPTS = (stopping.Stopped, KeyboardInterrupt, TerminationSignal)
POLL_S = 0.5
SAY_EVERY_S = 30.0

tie_to_this_process()  # here, for every flow imports this


@dataclass
class Session(RunRecord):
    """An open run."""

    owner: bool = False
    """Whether this flow opened the run, and so closes it."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, log its seconds, and hand in what it made."""
        stopping.check()
        started = time.perf_counter()
        yield
        store = Store(self.run.store)
        if store.mirror is not None:
            resources.response_store(store).export()  # before the outputs that name these answers
            store.push()
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
    tracker, owner = tracker_of(study, store), run is None
    if run is None:
        scattered = runner_name(study) != "threads"
        run = start_run(study, flow, store, tracker, name=flow_run.name, flow_run_id=flow_run.id, scattered=scattered)
    session = Session(study, flow, run, tracker, owner=owner)
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
            session.close(INTERRUPTED if isinstance(exc, INTERRUPTS) else f"Failed: {type(exc).__name__}")
        raise
    finally:
        if owner:
            stopping.reset()
    if owner:
        session.close(CODE_FAULTS if session.failures else "Completed")


_owner: Session | None = None
"""The session of this process' run."""


def close_interrupted() -> None:
    """Close the run of this process from another thread than the flow's, which is held up."""
    if _owner is not None:
        _owner.close(INTERRUPTED)


def settle(futures: Sequence[tuple[str, PrefectFuture[Any]]], stage: str) -> tuple[list[Any], list[Failure]]:
    """Wait for all futures; results of those that succeeded, and who failed with what reason.

    Raises:
        Stopped: the run is being stopped.
    """
    results, failures = [], []
    awaited = Awaited(futures, stage)
    for subject, future in futures:
        _wait(future, awaited)
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


class Awaited:
    """Says now and then what a stage is waiting for."""

    def __init__(self, futures: Sequence[tuple[str, PrefectFuture[Any]]], stage: str) -> None:
        self._futures, self._stage = futures, stage
        self._said_at = time.monotonic()

    def say(self) -> None:
        """Every SAY_EVERY_S, not more often."""
        if time.monotonic() - self._said_at < SAY_EVERY_S:
            return
        states = [(subject, future.state) for subject, future in self._futures]
        done = sum(state.is_final() for _, state in states)
        running = listed([subject for subject, state in states if state.is_running()], 3)
        log.info("%s: %d of %d done; at work: %s", self._stage, done, len(states), running)
        self._said_at = time.monotonic()


def _wait(future: PrefectFuture[Any], awaited: Awaited) -> None:
    """Wait for one, looking up now and then: tasks in other processes do not see that this one is being stopped."""
    future.wait(timeout=POLL_S)
    stopping.check()
    while not future.state.is_final():
        awaited.say()
        future.wait(timeout=POLL_S)
        stopping.check()
    future.wait()  # final at the server, it may still be on its way here
