"""Surrogate: load and pin it, compute the pool's features, name the spaces."""

from __future__ import annotations

import logging

from prefect import flow

from flows.ingest import Ingested, ingest
from flows.run_names import run_name
from flows.session import open_session
from tasks.run import Run
from tasks.surrogate import SpaceRef, pool_features, register_space

log = logging.getLogger("flows.surrogate")


@flow(name="surrogate", flow_run_name=run_name)
def surrogate(study: str, run: Run | None = None, ingested: Ingested | None = None) -> list[SpaceRef]:
    """Make the surrogate's features of the pool, and register a space for each method.

    Args:
        study: path of the study file.
        run: the run that this stage belongs to; none when it runs alone.
        ingested: what the ingest stage left; none when this stage runs alone.
    """
    with open_session(study, "surrogate", run) as session:
        ingested = ingested or ingest(study, session.run)
        with session.stage("surrogate"):
            config = session.study.surrogate
            read = any(m.needs_surrogate for m in session.study.methods)
            width = pool_features(session.run, config, ingested.pool) if read else 0
            spaces = [register_space(session.run, config, m, ingested.pool) for m in session.study.methods]
        log.info(
            "surrogate: %s, %d features an input; spaces %s",
            config.model if read else "none",
            width,
            ", ".join(f"{s.method.method} {s.id}" for s in spaces),
        )
        return spaces
