"""Ingest: labelled datasets and the pool, as snapshots in the store."""

from __future__ import annotations

import logging

from prefect import flow
from pydantic import BaseModel

from flows.run_names import run_name
from flows.session import open_session, settle
from fute.check_study import check_reused
from fute.errors import DataError
from tasks.ingest import PoolRef, build_pool_snapshot, ingest_dataset
from tasks.run import Run
from tasks.study import DatasetRef

log = logging.getLogger("flows.ingest")


class Ingested(BaseModel):
    datasets: list[DatasetRef]
    pool: PoolRef


@flow(name="ingest", flow_run_name=run_name)
def ingest(study: str, run: Run | None = None) -> Ingested:
    """Snapshot the datasets of a study and build its pool.

    Args:
        study: path of the study file.
        run: the run that this stage belongs to; none when it runs alone.
    """
    with open_session(study, "ingest", run) as session, session.stage("ingest"):
        if session.study.pool.reuse is not None:
            # Not there, or of other inputs: told before anything is ingested.
            check_reused(session.study, session.run.open_store().pool(session.study.pool.reuse))
        futures = [(d.id, ingest_dataset.submit(session.run, d)) for d in session.study.datasets]
        datasets, failures = settle(futures, "ingest")
        if failures:
            # The pool leaves out what the datasets hold: without one of them it would be another pool, and so
            # another space, and every model would be asked again.
            listed = "\n".join(f"  {f.subject}: {f.reason}" for f in failures)
            raise DataError(f"{len(failures)} of {len(futures)} datasets were refused; fix or remove them:\n{listed}")
        pool = build_pool_snapshot(session.run, session.study.pool, datasets)
        known = sum(d.reused for d in datasets)
        log.info("ingest: %d datasets (%d from the store), pool of %d rows", len(datasets), known, pool.rows)
        store = session.run.open_store()
        for ref in datasets:
            dataset = store.dataset(ref.ref)
            session.tracker.dataset(
                session.run.run_id, dataset.id, dataset.fingerprint, dataset.provenance, dataset.report
            )
        session.tracker.metrics(session.run.run_id, {"datasets": len(datasets), "pool_rows": pool.rows})
        return Ingested(datasets=datasets, pool=pool)
