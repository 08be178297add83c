"""A run that finds everything in the store: its pages are written and it is recorded, and that is all it takes.

Prefect is left out, for its temporary server would start for nothing, and so is what computes. Where flow runs go to a
server of the user's, they go there as always, those with nothing to do among them.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.base_urls import with_base_urls
from flows.run_record import INTERRUPTED, RunRecord, start_run, tracker_of
from fute.config import Study
from storage.accuracies import accuracy_metrics
from storage.store import Store
from storage.vectors import VectorStore
from tasks.pages import Pages, pages_of
from tasks.plan import finished_spaces
from tasks.ranking import note_on

log = logging.getLogger(__name__)

FLOW = "pipeline"


def run_unchanged(study: Study, base_urls: Mapping[str, str] | None = None) -> dict[str, Any] | None:
    """Run a study that has nothing left to do.

    Returns:
        Its row of `runs`; None: nothing was done here, for there is something to do, or a server to report to.
    """
    started = time.perf_counter()
    if reports_to_a_server():
        return None
    store = Store(study.store_address)
    try:
        if base_urls:
            study = with_base_urls(study, dict(base_urls))
        spaces = finished_spaces(study, store.pull())
        pages = None if spaces is None else _pages(study, store, spaces)
    except Exception as exc:  # whatever it is: the flow meets it as well, says so, and is recorded as failed
        log.debug("not known to be finished: %s", exc)
        return None
    if spaces is None or pages is None:
        return None
    log.info("everything is in the store: nothing to do")
    tracker = tracker_of(study, store)
    record = RunRecord(study, FLOW, start_run(study, FLOW, store, tracker), tracker, started)
    record.spaces, record.report = spaces, pages.study
    record.metrics = accuracy_metrics(store, spaces)
    try:
        record.track_pages(pages)
    except BaseException as exc:
        record.close(f"Failed: {type(exc).__name__}" if isinstance(exc, Exception) else INTERRUPTED)
        raise
    return record.close("Completed")


def _pages(study: Study, store: Store, spaces: list[str]) -> Pages:
    vectors = VectorStore(store)
    noted = {space: note_on(vectors.ranked_frame(space)) for space in spaces}
    notes = {space: [note] for space, note in noted.items() if note is not None}
    return pages_of(store, study.name, spaces, study.endpoints, notes, failures=())


def reports_to_a_server() -> bool:
    """Whether flow runs go to a Prefect server of the user's; else a flow starts a temporary one in this process."""
    if "prefect" not in sys.modules and not _may_name_one():
        return False
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


def _may_name_one() -> bool:
    """Whether there is anything of what Prefect takes its API's address from: environment, profiles, settings files."""
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").expanduser()
    return (
        bool({"PREFECT_API_URL", "PREFECT_PROFILE"} & os.environ.keys())
        or profiles.exists()
        or Path("prefect.toml").exists()
        or _holds(Path("pyproject.toml"), "[tool.prefect")
        or _holds(Path(".env"), "PREFECT_")
    )


def _holds(file: Path, text: str) -> bool:
    return file.is_file() and text in file.read_text(encoding="utf-8", errors="replace")
