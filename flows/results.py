"""What a run says on the terminal when it is over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from flows.console import PlainTable, say
from fute.did_you_mean import listed
from fute.errors import NotInStoreError
from fute.surrogate.vectors import has_no_model
from fute.unify.frame import legend
from storage import catalog
from storage.store import Store
from storage.summary import SpaceSummary, lead_in_words, near_in_words, right_in_words, summarise
from tasks.atlas import next_commands, own_file_command

RANKED = 2
MOST_LINES = 6
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
        if any(e.kind == "dataset" for e in summary.population):
            console.print(datasets_table(summary))
        console.print(models_table(summary))
        console.print(legend(summary.frame, summary.space["method"]))
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
    populated = [s for s in summaries if s.population]
    if populated:
        say(console, "\nTry next:")
        for purpose, command in next_commands(store, populated[0]):
            say(console, f"  # {purpose}\n  {command}")
        matched = None if has_no_model(populated[0].space["surrogate"]) else own_file_command(store)
        _say_answer(console, populated[0], run["report"], matched)


def _say_answer(console: Console, summary: SpaceSummary, page: str | None, command: str | None) -> None:
    """The last that is said, in at most ten lines: what fits, where it can be looked at, and what comes next."""
    say(console)
    for line in answer_lines(summary):
        say(console, line)
    if page:
        say(console, f"page: {page}")
    if command:
        say(console, f"a labelled file of yours: {command}")


def datasets_table(summary: SpaceSummary) -> PlainTable:
    """For each dataset, the models that will be right most often, and the nearest one."""
    title = f"Which model fits which dataset ({summary.space['method']})"
    ranks = [f"right most often {i}" for i in range(1, RANKED + 1)]
    table = PlainTable("dataset", *ranks, "nearest model", "first ahead of second by", title=title)
    for e in summary.population:
        if e.kind == "dataset":
            near = summary.nearest("dataset", e.subject, "model", 1)
            best = summary.most_right(e.subject)[:RANKED]
            told = [f"{model} {right_in_words(row)}" for model, row in best] or [summary.unknown(e.subject)]
            told += [""] * (RANKED - len(told))
            nearest = (near_in_words(near[0]), lead_in_words(near[0])) if near else ("", "")
            table.add_row(e.subject, *told, *nearest)
    return table


def answer_lines(summary: SpaceSummary) -> list[str]:
    """Which model fits each dataset and how sure that is, and what fits nothing: in a few lines, of however many."""
    fits, nothing, unknown = [], [], []
    for e in summary.population:
        if e.kind != "dataset":
            continue
        if better := summary.better(e.subject):
            model, row = better[0]
            fits.append(f"{e.subject}: {model} {right_in_words(row).replace('right in', 'right in about', 1)}")
        elif has_no_model(summary.space["surrogate"]):  # nothing is read out, so that nearness is all there is
            near = summary.nearest("dataset", e.subject, "model", 1)
            fits += [f"{e.subject}: {near_in_words(near[0])}"] if near else []
        elif summary.most_right(e.subject):
            nothing.append(e.subject)
        else:
            unknown.append(e.subject)
    a_line = -(-len(fits) // MOST_LINES)
    lines = ["; ".join(fits[i : i + a_line]) for i in range(0, len(fits), max(a_line, 1))]
    if nothing:
        lines.append(f"no model is surely better than always the most frequent label on: {listed(nothing, MOST_LINES)}")
    if unknown:
        lines.append(f"not known of any model: {listed(unknown, MOST_LINES)}")
    return lines


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
        details = store.outputs_details(summary.space["pool"], entry.ref)
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
