"""Folding what a stage or a store has in many small files."""

from __future__ import annotations

import logging
from typing import get_args

from fute.types import Kind
from storage.folding import Folded, damaged, fold
from storage.store import Store
from storage.vectors import VectorStore
from tasks import resources
from tasks.engine import NO_CACHE, task
from tasks.run import Run

log = logging.getLogger(__name__)


@task(cache_policy=NO_CACHE, task_run_name="fold-embeddings")
def fold_embeddings(run: Run, spaces: list[str]) -> None:
    """Fold the embeddings of some spaces. What cannot be folded stays as it is, and spoils no run."""
    store = run.open_store()
    for space in spaces:
        for kind in get_args(Kind):
            try:
                faults = fold(store, VectorStore(store).folder(space, kind)).faults
            except OSError as exc:
                faults = [str(exc)]
            for fault in faults:
                log.warning("embed: not folded: %s", fault)


@task(cache_policy=NO_CACHE, task_run_name="fold-{folder}")
def fold_folder(store: str, folder: str, min_files: int) -> Folded:
    """Fold one folder, given relative to its store, and read through what is in it then."""
    opened = Store(store)
    done = fold(opened, opened.root / folder, min_files=min_files)
    done.faults = list(dict.fromkeys([*done.faults, *damaged(opened.root / folder)]))
    return done


@task(cache_policy=NO_CACHE, task_run_name="export-answers")
def export_answers(store: str) -> int:
    """Write the answers that a killed run has left in the ledger to Parquet; returns how many."""
    return resources.response_store(Store(store)).export()
