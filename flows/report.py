"""Report: the map of each space, in the store, in MLflow and linked from Prefect."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import flow

from flows.session import open_session
from flows.surrogate import surrogate
from flows.unify import unify
from tasks.report import publish, write_map
from tasks.run import Failure, Run
from tasks.surrogate import SpaceRef
from tasks.unify import Unified

log = logging.getLogger(__name__)


@flow(name="report")
def report(
    study: str,
    run: Run | None = None,
    spaces: list[SpaceRef] | None = None,
    unified: list[Unified] | None = None,
    failures: list[Failure] | None = None,
) -> str | None:
    """Write the map of each space; returns the path of the first.

    Args:
        study: path of the study file.
        run: the run that this stage belongs to; none when it runs alone.
        spaces: what the surrogate stage left; none when this stage runs alone.
        unified: what the unify stage left; none when this stage runs alone.
        failures: what did not work in the stages before.
    """
    with open_session(study, "report", run) as session:
        spaces = spaces or surrogate(study, session.run)
        unified = unified or unify(study, session.run, spaces)
        paths = []
        with session.stage("report"):
            for space in unified:
                if space.subjects == 0:
                    continue
                path = write_map(session.run, space, failures or [])
                publish(session.run, space, path, failures or [])
                session.tracker.artifact(session.run.run_id, Path(path))
                paths.append(path)
        log.info("report: %s", ", ".join(paths) or "nothing to show")
        return paths[0] if paths else None
