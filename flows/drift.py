"""Drift: ask a fixed panel of the pool again, and say which prompted models no longer answer as they did."""

from __future__ import annotations

import logging
from typing import Any

from prefect import flow
from prefect.states import Failed
from pydantic import BaseModel

from flows.ingest import Ingested, ingest
from flows.run_names import run_name
from flows.session import open_session, settle
from fute.expand import watched_models
from tasks.drift import DriftCheck, check_drift
from tasks.endpoints import check_keys
from tasks.run import Failure, Run
from tasks.study import parts_of

log = logging.getLogger("flows.drift")

DRIFTED = "Drifted"


class Drift(BaseModel):
    checks: list[DriftCheck]
    failures: list[Failure]


@flow(name="drift", flow_run_name=run_name)
def drift(
    study: str,
    run: Run | None = None,
    ingested: Ingested | None = None,
    base_urls: dict[str, str] | None = None,
    renew: bool = False,
) -> Any:
    """Check every prompted model of a study. The first check makes the baseline; a model that drifted is not green.

    Nor is one whose settings were changed in the study, if it answers otherwise since: once, for the new answers are
    then its baseline.

    Args:
        study: path of the study file.
        run: the run that this stage belongs to; none when it runs alone.
        ingested: what the ingest stage left; none when this stage runs alone.
        base_urls: other addresses for endpoints, by their id: the same services, moved.
        renew: make new baselines of the models as they are now, and check nothing.
    """
    with open_session(study, "drift", run, base_urls) as session:
        check_keys(session.study)
        models = watched_models(session.study)
        ingested = ingested or ingest(study, session.run)
        parts = parts_of(session.study, ingested.datasets)
        futures = [
            (str(m.id), check_drift.submit(session.run, m, parts, ingested.pool.id, session.study.drift, renew))
            for m in models
        ]
        checks, failures = settle(futures, "drift")
        drifted = [check for check in checks if check.drifted]
        for check in checks:
            if check.changed and check.new_baseline and not check.drifted:
                log.warning(
                    "%s: the study has changed its %s; it answers as before, and what it answers now is its "
                    "baseline from now on",
                    check.model,
                    " and ".join(check.changed),
                )
        session.failures += failures
        session.failures += [Failure(subject=c.model, stage="drift", reason="; ".join(c.reasons)) for c in drifted]
        session.tracker.metrics(
            session.run.run_id,
            {"drift_checked": len(checks), "drifted": len(drifted), "llm_calls": sum(c.calls for c in checks)},
        )
        log.info(
            "drift: %d models checked, %d drifted, %d new baselines, %d failed",
            len(checks),
            len(drifted),
            sum(c.new_baseline for c in checks),
            len(failures),
        )
        if drifted:
            listed = "; ".join(f"{c.model}: {', '.join(c.reasons)}" for c in drifted)
            return Failed(name=DRIFTED, message=f"{len(drifted)} of {len(checks)} models drifted: {listed}")
        return session.end_state(Drift(checks=checks, failures=failures))
