"""Maintain: fold a store's small files into larger ones, index what is large, and remove what was folded before."""

from __future__ import annotations

import logging
import time
from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from pydantic import BaseModel

from flows.session import failed_state, settle
from fute import stopping
from fute.errors import ConfigError, NotInStoreError
from fute.load_study import load_study
from storage.catalog import VIEWS
from storage.compaction import MIN_FILES
from storage.fold_kinds import Folded
from storage.nearest_index import INDEX_FROM, available
from storage.removal import GRACE_S
from storage.stamp import Stamp
from storage.store import Store, to_json
from tasks.maintain import (
    Built,
    build_index,
    fold_answers,
    fold_folder,
    folders,
    indexes_due,
    publish,
    remove_folded,
)
from tasks.run import Failure

log = logging.getLogger("flows.maintain")

SIGNS = ("schema/version.json", "responses/*.parquet", "responses/live/*.sqlite", *(view.glob for view in VIEWS))
"""Files by which a store is told from any other folder, which may well have one called models or reports."""


class Maintained(BaseModel):
    folders: list[Folded]
    indexes: list[Built]
    failures: list[Failure]


@flow(name="maintain")
def maintain(
    study: str | None = None,
    store: str | None = None,
    grace_s: float = GRACE_S,
    min_files: int = MIN_FILES,
    index_from: int = INDEX_FROM,
) -> Any:
    """Fold, index and tidy up one store. Runs and readers may be at work meanwhile; a killed one is simply run again.

    Args:
        study: path of a study file, whose store it is.
        store: the store itself, a folder or URL.
        grace_s: how long folded files are kept for readers that have listed them; the flow waits for that.
        min_files: a folder with fewer small files is left as it is.
        index_from: embeddings of a kind in a space from which an index is built.

    Raises:
        ConfigError: neither a study nor a store was named, or both.
        NotInStoreError: there is no store. None is made: maintenance in the wrong place would be green for ever.
    """
    if (study is None) == (store is None):
        raise ConfigError("maintain needs a study or a store, and not both")
    started = time.perf_counter()
    name = None
    if study is not None:
        loaded = load_study(study)
        name, store = loaded.name, loaded.store_address
    opened = _opened(str(store))
    address = opened.address
    opened.scratch.sweep()
    fold_answers(address)
    folded, failures = settle([(f, fold_folder.submit(address, f, min_files)) for f in folders(address)], "fold")
    built, not_built = _index(address, index_from)
    if any(folder.parts for folder in folded):
        log.info("maintain: folded; what was folded is removed in %.0f s", grace_s)
        stopping.pause(grace_s)
    done, not_removed = settle([(f.folder, remove_folded.submit(address, f, grace_s)) for f in folded], "remove")
    failures += not_built + not_removed
    failures += [Failure(subject=f.folder, stage="fold", reason=fault) for f in done for fault in f.faults]
    publish(done, built)
    result = Maintained(folders=done, indexes=built, failures=failures)
    row = {
        "study": name,
        "flow": "maintain",
        "state": "CompletedWithFailures" if failures else "Completed",
        "seconds": time.perf_counter() - started,
        "failures": to_json([f.model_dump() for f in failures]),
        "report": to_json(result.model_dump()),
    }
    opened.put_run(row, Stamp(None, flow_run.id))
    log.info("maintain: %d files folded into %d, %d removed, %d indexes built, %d failures",
             sum(f.files for f in done), sum(f.parts for f in done), sum(f.removed for f in done), len(built),
             len(failures))  # fmt: skip
    if failures:
        return failed_state("; ".join(f"{f.subject} ({f.stage}): {f.reason}" for f in failures))
    return result


def _opened(address: str) -> Store:
    """The store at an address, pulled. Raises NotInStoreError: there is none; nothing was made there, or here."""
    store = Store(address)
    # Of an address with nothing in it no mirror is begun.
    if store.mirror is not None and (store.root.exists() or store.mirror.folders()):
        store.pull()
    if not any(next(store.root.glob(sign), None) for sign in SIGNS):
        raise NotInStoreError(
            f"no store at {store.address}, so nothing to maintain; give another place (--store), or wait for a study's "
            "first run, which makes its store: `fute run`, or the deployment pipeline/nightly"
        )
    return store


def _index(store: str, index_from: int) -> tuple[list[Built], list[Failure]]:
    due = indexes_due(store, index_from)
    if due and not available():
        log.info("maintain: %d kinds are large enough for an index, which needs fute[index]; they are searched without",
                 len(due))  # fmt: skip
        return [], []
    return settle([(f"{d.space} {d.kind}", build_index.submit(store, d)) for d in due], "index")
