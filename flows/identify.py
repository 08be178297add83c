"""Identify: is an endpoint the model that was enrolled under another?"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Failed
from rich.console import Console

from flows.console import say
from flows.ingest import ingest
from flows.run_names import run_name
from flows.session import open_session, settle
from storage.catalog import query
from storage.store import Store
from tasks.endpoints import check_keys
from tasks.identify import enrolled_model, identify_endpoint
from tasks.study import parts_of

STATES = {"another": "Another", "unknown": "CannotTell", "unread": "CannotTell"}


@flow(name="identify", flow_run_name=run_name)
def identify(study: str, endpoint: str, reference: str, base_urls: dict[str, str] | None = None) -> Any:
    """Ask an endpoint at most 20 texts, and say whether it is the model that was enrolled.

    Args:
        study: path of the study file, with both endpoints.
        endpoint: id of the one in question.
        reference: id of a watched model with a baseline, or of its endpoint.
        base_urls: other addresses for endpoints, by their id.
    """
    with open_session(study, "identify", None, base_urls) as session:
        check_keys(session.study)
        config = enrolled_model(session.study, endpoint, reference)
        ingested = ingest(study, session.run)
        parts = parts_of(session.study, ingested.datasets)
        future = identify_endpoint.submit(session.run, config, endpoint, parts, ingested.pool.id, session.study.drift)
        looked, failures = settle([(endpoint, future)], "identify")
        session.failures += failures
        if not looked:
            return session.end_state(None)
        (found,) = looked
        session.tracker.metrics(session.run.run_id, {"p_value": found.p_value or 0.0, "llm_calls": found.calls})
        if found.state in STATES:
            return Failed(name=STATES[found.state], message=found.reasons[0])
        return session.end_state(found)


def print_identity(console: Console, store: Store, flow_run_id: str) -> None:
    rows = query(store.root, "SELECT reasons FROM drift WHERE flow_run_id = $id", {"id": flow_run_id}).rows
    for (reasons,) in rows:
        for reason in reasons:
            say(console, reason)
    say(console, f"\nstore  {store.root}")
