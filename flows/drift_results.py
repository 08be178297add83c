"""What `fute drift` says: each model, what was found, and what that means."""

from __future__ import annotations

import json

from rich.console import Console

from flows.console import PlainTable, say
from flows.results import recorded_run
from storage.catalog import Catalog
from storage.store import Store


def print_drift(console: Console, store: Store, flow_run_id: str) -> None:
    """The checks and new baselines of a run, and what failed."""
    with Catalog(store.root) as catalog:
        checks = catalog.query(
            "SELECT * FROM drift WHERE flow_run_id = $id ORDER BY drifted DESC, model, created_at", {"id": flow_run_id}
        ).records()
        baselines = catalog.query(
            "SELECT DISTINCT model, baseline FROM drift_baselines WHERE flow_run_id = $id ORDER BY model",
            {"id": flow_run_id},
        ).rows
    if checks:
        table = PlainTable("model", "asked", "state", "calls", "p", "what was found")
        for check in checks:
            p = "" if check["p_value"] is None else f"{check['p_value']:.2g}"
            told = "; ".join(check["reasons"]) or "as before"
            table.add_row(check["model"], check["tier"], check["state"], check["calls"], p, told)
        console.print(table)
    for check in checks:
        if check["changed"] and not check["drifted"]:
            changed = " and ".join(check["changed"])
            say(console, f"{check['model']}: the study has changed its {changed}; it answers as before")
    for model, baseline in baselines:
        say(console, f"new baseline of {model}: {baseline}; the next check compares with it")
    for failure in json.loads(recorded_run(store, flow_run_id)["failures"]):
        say(console, f"{failure['subject']} ({failure['stage']}): {failure['reason']}")
    if any(check["drifted"] and not check["changed"] for check in checks):
        say(console, "\nWhere a change was meant, make new baselines: fute drift STUDY --renew")
    say(console, f"\nstore  {store.root}")
