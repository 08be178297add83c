"""Report: the pages of the study and of the whole store, in the store, in MLflow and linked from Prefect."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import flow

from flows.run_names import run_name
from flows.session import open_session
from flows.surrogate import surrogate
from flows.unify import unify
from tasks.report import publish_pages, publish_result, write_pages
from tasks.run import Failure, Run
from tasks.surrogate import SpaceRef
from tasks.unify import Unified

log = logging.getLogger("flows.report")


@flow(name="report", flow_run_name=run_name)
def report(
    study: str,
    run: Run | None = None,
    spaces: list[SpaceRef] | None = None,
    unified: list[Unified] | None = None,
    failures: list[Failure] | None = None,
) -> str | None:
    """Write the page of the study and that of the store; returns the path of the first.

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
        populated = [space for space in unified if space.subjects]
        if not populated:
            log.info("report: nothing to show")
            return None
        with session.stage("report"):
            pages = write_pages(session.run, populated, failures or [], session.study.endpoints)
            for space in populated:
                publish_result(session.run, space, pages, failures or [])
            session.track_pages(pages)
            publish_pages(session.run, pages, session.tracker.address_of(session.run.run_id, Path(pages.study).name))
        log.info("report: %s; the whole store: %s", pages.study, pages.store)
        return pages.study
