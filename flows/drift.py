"""Drift: ask prompted models again, and say which no longer answer as they did."""

from __future__ import annotations

import logging
from typing import Any

from prefect import flow
from prefect.events import emit_event
from prefect.states import Failed
from pydantic import BaseModel

from flows.ingest import Ingested, ingest
from flows.run_names import run_name
from flows.session import open_session, settle
from fute.drift import false_discovery
from fute.expand import watched_models
from storage.drift import DriftStore
from tasks.drift import check_drift
from tasks.endpoints import check_keys
from tasks.run import Failure, Run
from tasks.study import parts_of
from tasks.watch import DriftCheck

log = logging.getLogger("flows.drift")

EVENT = "fute.drift"
DRIFTED = "Drifted"
SETTINGS_CHANGED = "SettingsChanged"


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
    wire: bool = False,
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
        wire: ask 10 to 20 rows of each model, and its whole panel only where they look otherwise, or once a week.
    """
    with open_session(study, "drift", run, base_urls) as session:
        check_keys(session.study)
        models, config = watched_models(session.study), session.study.drift
        ingested = ingested or ingest(study, session.run)
        parts, pool = parts_of(session.study, ingested.datasets), ingested.pool.id
        futures = [
            (str(m.id), check_drift.submit(session.run, m, parts, pool, config, renew, wire, len(models)))
            for m in models
        ]
        looked, failures = settle(futures, "drift")
        checks = judged([check for found in looked for check in found], config.alpha)
        store = DriftStore(session.run.open_store())
        for check in checks:
            if check.tier in ("wire", "panel"):
                store.put_check(check.row(session.run.study), session.run.stamp, check.day)
            if check.drifted:
                _tell(session.run, check)
            log.info("%s (%s): %s", check.model, check.tier, "; ".join(check.reasons) or check.state)
        failures += [_failure(check) for check in checks if check.state == "unread"]
        drifted = [check for check in checks if check.drifted]
        session.failures += [*failures, *map(_failure, drifted)]
        session.tracker.metrics(
            session.run.run_id,
            {
                "drift_checked": len(looked),
                "drifted": len(drifted),
                "tripped": sum(check.state == "tripped" for check in checks),
                "drift_unread": len(failures),
                "llm_calls": sum(check.calls for check in checks),
                **{f"label_changed_{c.model}".replace("+", "-"): c.found.share for c in checks if c.found is not None},
            },
        )
        by_itself = [check for check in drifted if check.state != "settings"]
        # Of several things the worst: changed, could not be read, changed by the study.
        if by_itself or (drifted and not failures):
            listed = "; ".join(f"{c.model}: {', '.join(c.reasons)}" for c in drifted)
            message = f"{len(drifted)} of {len(looked)} models drifted: {listed}"
            return Failed(name=DRIFTED if by_itself else SETTINGS_CHANGED, message=message)
        return session.end_state(Drift(checks=checks, failures=failures))


def judged(checks: list[DriftCheck], alpha: float) -> list[DriftCheck]:
    """With their verdicts: which panels have changed is decided over all models of the study."""
    panels = [check for check in checks if check.tier == "panel" and check.state != "unread"]
    found = false_discovery([check.p_value or 0.0 for check in panels], alpha)
    verdicts = dict(zip((check.model for check in panels), found, strict=True))
    return [check.judged(verdicts[check.model]) if check in panels else check for check in checks]


def _failure(check: DriftCheck) -> Failure:
    return Failure(subject=check.model, stage="drift", reason="; ".join(check.reasons))


def _tell(run: Run, check: DriftCheck) -> None:
    emit_event(
        event=EVENT,
        resource={"prefect.resource.id": f"fute.model.{run.study}.{check.model}", "prefect.resource.name": check.model},
        payload={"study": run.study, **check.model_dump(mode="json", exclude={"panel_answered", "panel_labels"})},
    )
