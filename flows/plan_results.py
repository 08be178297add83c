"""What `fute check` and the dry runs say: each step, its calls, and what they are likely to cost."""

from __future__ import annotations

import click
from rich.console import Console

from flows.console import PlainTable
from fute.json_text import json_text
from fute.terminal import printable
from tasks.plan import Plan


def print_plan(console: Console, study: str, plan: Plan, as_json: bool) -> None:
    if as_json:
        click.echo(json_text([step.model_dump() for step in plan.steps], indent=2, ascii=True))
        return
    table = PlainTable("stage", "subject", "state", "LLM calls", "about US$", title=f"study {study}")
    for step in plan.steps:
        usd = "" if step.cost is None or step.cost.usd is None else f"{step.cost.usd:.4f}"
        table.add_row(step.stage, step.subject, step.state, "" if step.calls is None else str(step.calls), usd)
    console.print(table)
    click.echo(printable(plan.summary()))
