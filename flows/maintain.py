"""Maintain: fold the small files of a whole store, and name those that are damaged."""

from __future__ import annotations

import logging
import time
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run
from pydantic import BaseModel

from flows.run_names import run_name
from flows.session import failed_state, settle
from fute.errors import ConfigError, NotInStoreError
from fute.load_study import load_study
from storage.folding import MIN_FILES, Folded, folders
from storage.stamp import Stamp
from storage.store import Store, to_json
from storage.views import VIEWS
from tasks.fold import export_answers, fold_folder
from tasks.run import Failure

log = logging.getLogger("flows.maintain")

SIGNS = ("schema/version.json", "responses/**/*.sqlite", *(view.glob for view in VIEWS))
"""Files by which a store is told from any other folder, which may well have one called models or reports."""


class Maintained(BaseModel):
    folders: list[Folded]
    failures: list[Failure]


@flow(name="maintain", flow_run_name=run_name)
def maintain(study: str | None = None, store: str | None = None, min_files: int = MIN_FILES) -> Any:
    """Fold one store. Runs and readers may be at work meanwhile; a killed one is simply run again.

    Args:
        study: path of a study file, whose store it is.
        store: the store itself, a folder or URL.
        min_files: a folder with fewer small files is left as it is.

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
    opened.scratch.sweep()
    export_answers(opened.address)
    small = [folder.relative_to(opened.root).as_posix() for folder in folders(opened)]
    done, failures = settle([(f, fold_folder.submit(opened.address, f, min_files)) for f in small], "fold")
    failures += [Failure(subject=f.folder, stage="fold", reason=fault) for f in done for fault in f.faults]
    create_table_artifact(
        [{"folder": f.folder, "folded": f.files, "into": f.parts} for f in done],
        key="maintenance",
        description="What was folded",
    )
    result = Maintained(folders=done, failures=failures)
    row = {
        "study": name,
        "flow": "maintain",
        "state": "CompletedWithFailures" if failures else "Completed",
        "seconds": time.perf_counter() - started,
        "failures": to_json([f.model_dump() for f in failures]),
        "report": to_json(result.model_dump()),
    }
    opened.put_run(row, Stamp(None, flow_run.id))
    opened.push()
    log.info(
        "maintain: %d files folded into %d, %d failures",
        sum(f.files for f in done),
        sum(f.parts for f in done),
        len(failures),
    )
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
