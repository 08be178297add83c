"""The record of a run: opened in MLflow when it begins, closed there and in the store when it ends."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fute.config import Study
from fute.expand import expand_models
from fute.json_text import json_text
from storage.store import Store, to_json
from storage.tracker import Tracker, default_uri
from tasks import resources
from tasks.page_links import page_link
from tasks.pages import Pages
from tasks.run import Failure, Run

log = logging.getLogger(__name__)

CODE_FAULTS = "CompletedWithFailures"
INTERRUPTED = "Interrupted"


@dataclass
class RunRecord:
    """What is told of a run, in whose ids all that it makes is stamped."""

    study: Study
    flow: str
    run: Run
    tracker: Tracker
    started: float = field(default_factory=time.perf_counter)
    failures: list[Failure] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    spaces: list[str] = field(default_factory=list)
    report: str | None = None
    closing: threading.Lock = field(default_factory=threading.Lock)

    def track_pages(self, pages: Pages) -> None:
        # The store's page grows with the store and is replaced by every run: MLflow keeps the study's, and a link.
        self.tracker.artifact(self.run.run_id, Path(pages.study))
        self.tracker.text(self.run.run_id, f"{page_link(Path(pages.store))}\n", "store-page.txt")

    def close(self, state: str) -> dict[str, Any] | None:
        """Write the run's record, once, and end it in MLflow whatever becomes of that; its row of `runs`."""
        if not self.closing.acquire(blocking=False):
            return None
        seconds = time.perf_counter() - self.started
        row = {
            "study": self.study.name,
            "flow": self.flow,
            "state": state,
            "seconds": seconds,
            "spaces": self.spaces,
            "failures": to_json([f.model_dump() for f in self.failures]),
            "settings": to_json(self.study.model_dump(mode="json")),
            "report": self.report,
        }
        try:
            store = self.run.open_store()
            resources.response_store(store).export()
            store.put_run(row, self.run.stamp)
            store.push()  # however the run ended: what was made and paid for
        finally:
            self.tracker.metrics(self.run.run_id, {"seconds": seconds, "failures": len(self.failures), **self.metrics})
            self.tracker.end(self.run.run_id, failed=state != "Completed", killed=state == INTERRUPTED)
        if self.tracker.gap is not None:
            log.warning(
                "this run is not in MLflow, or only a part of it (%s); the store has all of it", self.tracker.gap
            )
        return row


def tracker_of(study: Study, store: Store) -> Tracker:
    named = study.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    uri = (named or default_uri(store.root)) if study.tracking.enabled else None
    return Tracker(uri, study.tracking.experiment or study.name, store.root / "mlruns", store.run_state)


def start_run(
    study: Study,
    flow: str,
    store: Store,
    tracker: Tracker,
    *,
    name: str | None = None,
    flow_run_id: str | None = None,
    scattered: bool = False,
) -> Run:
    """Open a run in MLflow.

    Args:
        name: its name there; default: the flow's.
        flow_run_id: the flow run of Prefect that it is, if it is one.
        scattered: see Run.
    """
    run_id = tracker.start(
        name or flow,
        tags={"flow": flow, "study": study.name, "prefect.flow_run_id": flow_run_id},
        params={
            "study": study.name,
            "store": store.address,
            "seed": study.seed,
            "surrogate": study.surrogate.model,
            "methods": ", ".join(m.method for m in study.methods),
            "datasets": len(study.datasets),
            "models": len(expand_models(study)),
        },
    )
    tracker.text(run_id, json_text(study.model_dump(mode="json"), indent=2), "study.json")
    return Run.of(study, run_id=run_id, flow_run_id=flow_run_id, scattered=scattered)
