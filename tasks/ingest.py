"""Stage 1: labelled datasets and the pool, as snapshots in the store."""

from __future__ import annotations

import logging

from pydantic import BaseModel

from fute.config import DatasetConfig, PoolConfig, PromptConfig
from fute.data.cautions import dataset_cautions, pool_cautions, rows_to_spare
from fute.data.ingest import ingest
from fute.data.pool import build_pool
from tasks.engine import NO_CACHE, task
from tasks.pool_change import pool_change
from tasks.run import Run, handed_in
from tasks.study import DatasetRef, dataset_ref, prompt_row

log = logging.getLogger(__name__)


class PoolRef(BaseModel):
    """A pool in the store."""

    id: str
    rows: int


@task(cache_policy=NO_CACHE, task_run_name="ingest-{config.id}")
@handed_in
def ingest_dataset(run: Run, config: DatasetConfig) -> DatasetRef:
    """Snapshot one dataset; nothing is read again when its source and settings are known."""
    store = run.open_store()
    found = dataset_ref(run, config, store)
    if not found.reused:
        dataset = ingest(config, run.folder, run.seed)
        store.put_dataset(dataset, family=config.family, stamp=run.stamp)
    return found


@task(cache_policy=NO_CACHE, task_run_name="pool")
def build_pool_snapshot(run: Run, config: PoolConfig, datasets: list[DatasetRef]) -> PoolRef:
    """Build the pool, or take a stored one by id."""
    store = run.open_store()
    known = [store.dataset(d.ref) for d in datasets]
    for caution in [line for dataset in known for line in dataset_cautions(dataset)]:
        log.warning("%s", caution)
    if config.reuse is not None:
        pool = store.pool(config.reuse)
    else:
        evaluated = known if config.exclude_evaluated else []
        pool = build_pool(config, run.folder, run.seed, evaluated)
        if change := pool_change(run.study, store, pool, evaluated):
            log.warning("%s", change)
        for caution in rows_to_spare(pool, config):
            log.info("%s", caution)
        store.put_pool(pool, run.stamp)
    for caution in pool_cautions(pool, known if config.reuse or not config.exclude_evaluated else ()):
        log.info("%s", caution)
    return PoolRef(id=pool.id, rows=len(pool))


@task(cache_policy=NO_CACHE, task_run_name="prompts")
def record_prompts(run: Run, prompts: list[PromptConfig]) -> None:
    """Write a study's prompts to Parquet, so that SQL can join them."""
    store = run.open_store()
    for prompt in prompts:
        store.put_prompt(prompt_row(prompt), run.stamp)
