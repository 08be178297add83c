"""The pipeline: ingest, surrogate, embed, unify, report."""

from __future__ import annotations

from typing import Any, cast

from prefect import flow

from flows.embed import Embedded, embed
from flows.ingest import ingest
from flows.report import report
from flows.run_names import run_name
from flows.session import open_session
from flows.surrogate import surrogate
from flows.unify import unify
from storage.accuracies import accuracy_metrics
from storage.store import Store
from tasks.endpoints import check_keys


@flow(name="pipeline", flow_run_name=run_name)
def pipeline(study: str, base_urls: dict[str, str] | None = None, go_on: bool = False) -> Any:
    """From datasets and models to one space of embeddings. A second run of the same study does no work.

    Args:
        study: path of the study file.
        base_urls: other addresses for endpoints, by their id: the same services, moved.
        go_on: ask about all inputs where the first many answers of a prompted model are the same.
    """
    with open_session(study, "pipeline", None, base_urls) as session:
        check_keys(session.study)
        run = session.run.model_copy(update={"go_on": go_on})
        ingested = ingest(study, run)
        spaces = surrogate(study, run, ingested)
        session.spaces = [s.id for s in spaces]
        embedded = cast(Embedded, embed(study, run, ingested, spaces, base_urls))
        session.failures += embedded.failures
        unified = unify(study, run, spaces, embedded.embeddings)
        session.failures += [failure for space in unified for failure in space.failures]
        session.metrics |= accuracy_metrics(Store(session.run.store), session.spaces)
        session.report = report(study, run, spaces, unified, session.failures)
        return session.end_state(session.report)
