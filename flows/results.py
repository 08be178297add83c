"""What a run says on the terminal when it is over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from flows.console import PlainTable, say
from fute.errors import NotInStoreError
from fute.unify.frame import legend
from storage import catalog
from storage.store import Store
from storage.summary import SpaceSummary, lead_in_words, near_in_words, summarise
from tasks.atlas import next_commands

NEAREST = 3
READ_FROM = {"from_logprobs": "log-probabilities", "from_text": "text", "from_samples": "samples"}
MISSING = {
    "refusals": "refused",
    "too_long": "too long",
    "failed": "failed",
    "unparsable": "not to be read",
    "empty": "empty",
    "cut_short": "of these cut short",
    "prompts_cut": "prompts cut in their middle",
}


def print_results(console: Console, store: Store, flow_run_id: str | None) -> None:
    """What a flow run came to, as the store has it."""
    print_run(console, store, recorded_run(store, flow_run_id))


def recorded_run(store: Store, flow_run_id: str | None) -> dict[str, Any]:
    """Its row of `runs`; None: the last that had nothing to do, and so no flow run.

    Raises:
        NotInStoreError: there is none.
    """
    query = "SELECT * FROM runs WHERE flow_run_id IS NOT DISTINCT FROM $id ORDER BY created_at DESC LIMIT 1"
    runs = catalog.query(store.root, query, {"id": flow_run_id}).records()
    if not runs:
        raise NotInStoreError(f"no run {flow_run_id} in {store.root}")
    return runs[0]


def print_run(console: Console, store: Store, run: Mapping[str, Any]) -> None:
    """The ranked tables of a run, what failed, where everything lies, and what to try next.

    Args:
        run: its row of `runs`.
    """
    summaries = [summarise(store, space) for space in run["spaces"]]
    for summary in summaries:
        console.print(datasets_table(summary))
        console.print(models_table(summary))
        console.print(legend(summary.frame))
    if summaries and (prompts := prompts_table(store, summaries[0])):  # the answers are the same in every space
        console.print(prompts)
    failures = json.loads(run["failures"])
    if failures:
        title = f"{len(failures)} failed; everything else is done and stored"
        table = PlainTable("failed", "stage", "reason", title=title)
        for failure in failures:
            table.add_row(failure["subject"], failure["stage"], failure["reason"])
        console.print(table)
    say(console, f"\nstore  {store.root}")
    if run["report"]:
        say(console, f"page   {run['report']}")
    populated = [s for s in summaries if s.population]
    if populated:
        say(console, "\nTry next:")
        for purpose, command in next_commands(store, populated[0]):
            say(console, f"  # {purpose}\n  {command}")


def datasets_table(summary: SpaceSummary) -> PlainTable:
    """For each dataset, the models nearest to it."""
    title = f"Which model fits which dataset ({summary.space['method']})"
    ranks = [f"nearest model {i}" for i in range(1, NEAREST + 1)]
    table = PlainTable("dataset", *ranks, "first ahead of second by", title=title)
    for e in summary.population:
        if e.kind == "dataset":
            near = summary.nearest("dataset", e.subject, "model", NEAREST)
            told = [near_in_words(row) for row in near] + [""] * (NEAREST - len(near))
            table.add_row(e.subject, *told, lead_in_words(near[0]) if near else "")
    return table


def models_table(summary: SpaceSummary) -> PlainTable:
    """For each model, its task: what it was made for where known, and the dataset nearest to it."""
    table = PlainTable(
        "model",
        "kind",
        "made for",
        "held-out score",
        "nearest dataset",
        "nearest model",
        title=f"What each model does ({summary.space['method']})",
    )
    for e in summary.population:
        if e.kind == "model":
            card = summary.model_cards[e.subject]
            score = "" if card["score"] is None else f"{card['score']:.2f} {card['score_name']}"
            near = [summary.nearest("model", e.subject, kind, 1) for kind in ("dataset", "model")]
            table.add_row(
                e.subject,
                e.row["subject_kind"],
                e.row["task"] or "",
                score,
                *[near_in_words(rows[0]) if rows else "" for rows in near],
            )
    return table


def prompts_table(store: Store, summary: SpaceSummary) -> PlainTable | None:
    """A line for each prompted model; None where the space has none. Inputs without an answer are left out of what is
    learned from a model's outputs, and outputs with too few answers are refused."""
    rows = []
    for entry in summary.population:
        if entry.kind != "model" or entry.row["subject_kind"] != "prompt":
            continue
        ref = f"{entry.subject}@{entry.row['subject_fingerprint']}"
        details = store.outputs_details(summary.space["pool"], ref)
        if details:
            rows.append((entry.subject, details))
    if not rows:
        return None
    # Of columns that are empty throughout there would be many.
    shown = {
        field: name
        for field, name in {**READ_FROM, **MISSING, "without_pair": "no second text"}.items()
        if any(details.get(field) for _, details in rows)
    }
    table = PlainTable("prompted model", *shown.values(), title="How the prompts were answered (inputs)")
    for name, details in rows:
        table.add_row(name, *[details.get(field, 0) for field in shown])
    return table
