"""What `fute transfer` says: the best source of each target, and how well each method predicted it."""

from __future__ import annotations

import json
import shlex

from rich.console import Console

from flows.console import PlainTable, number, say
from flows.results import recorded_run
from fute.json_text import json_text
from storage.store import Store
from tasks.selection import TransferReport, read_report

METHODS_TITLE = (
    "Which method finds the best source (gain of NDCG: 2^score - 1; of relative NDCG: 0 worst to 1 best source)"
)


def print_transfer(console: Console, store: Store, flow_run_id: str, as_json: bool) -> None:
    """The tables of a run (or its report as JSON), what failed, and where everything lies."""
    run = recorded_run(store, flow_run_id)
    report = read_report(run["report"])
    if as_json:
        say(console, json_text(report.model_dump(mode="json"), indent=2, ascii=True))
        return
    console.print(targets_table(report))
    console.print(methods_table(report))
    for line in ranking_notes(report):
        say(console, line)
    for failure in json.loads(run["failures"]):
        say(console, f"failed: {failure['subject']} ({failure['stage']}): {failure['reason']}")
    if not any(row.space for row in report.selection):
        say(console, "no embedding of these datasets is in the store; `fute run` makes them, then run this again")
    say(console, f"\nstore  {store.root}\nmatrix {run['report']}")
    root = shlex.quote(str(store.root))
    say(console, f"  fute sql --store {root} \"SELECT * FROM evaluations WHERE name = 'transfer'\"")


def targets_table(report: TransferReport) -> PlainTable:
    """For each target: its score without a source, and from the three best sources."""
    title = f"From which source to start (held-out accuracy, mean of {report.seeds} draws)"
    table = PlainTable("target", "no source", "best source", "second", "third", title=title)
    for t, target in enumerate(report.targets):
        scored = [(score, i) for i, row in enumerate(report.scores) if (score := row[t]) is not None]
        best = [f"{report.sources[i]} {score:.3f}" for score, i in sorted(scored, key=lambda s: (-s[0], s[1]))[:3]]
        cells = [*best, *[""] * (3 - len(best))]
        table.add_row(target, number(report.baseline[t]), *cells)
    return table


def methods_table(report: TransferReport) -> PlainTable:
    """Average rank of the best source, NDCG, regret and gain of the first pick, all-class and in-class."""
    table = PlainTable(
        "candidates",
        "method",
        "source is a",
        "targets",
        "rank of best",
        "NDCG",
        "relative NDCG",
        "regret",
        "gain of pick",
        "space",
        title=METHODS_TITLE,
    )
    for row in report.selection:
        table.add_row(
            row.candidates,
            row.method,
            row.sources_as or "",
            str(row.targets),
            number(row.best_rank, 2),
            number(row.ndcg),
            number(row.ndcg_relative),
            number(row.regret),
            number(row.pick_gain),
            (row.space or "")[:8],
        )
    return table


def ranking_notes(report: TransferReport) -> list[str]:
    """What was removed from each space's vectors, and which labels they have seen."""
    ranked = {row.space: row for row in report.selection if row.space}
    if not ranked:
        return []
    lines = [f"{row.method}, space {space[:8]}: frame: {row.frame}" for space, row in ranked.items() if space]
    return [
        *lines,
        "The embedding of a target is made of its whole training split, the fine-tuning got "
        f"{report.rows} of its rows: the embeddings saw more labels.",
    ]
