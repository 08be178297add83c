"""What commands over a study have in common: their options, how they run a flow, and their exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from flows.console import PlainTable, console
from fute.errors import FuteError
from fute.json_text import json_text
from fute.terminal import printable

if TYPE_CHECKING:
    from prefect.states import State

    from fute.config import Study
    from storage.store import Store
    from tasks.plan import Plan

EXIT_FAILED = 1
EXIT_WITH_FAILURES = 3
EXIT_INTERRUPTED = 130
EXIT_OF_STATE = {"CompletedWithFailures": EXIT_WITH_FAILURES}
"""Of flows that did not fail altogether; a command may have states of its own."""


def _by_endpoint(ctx: click.Context, param: click.Parameter, items: tuple[str, ...]) -> dict[str, str]:
    """Endpoint id to address."""
    moved = {}
    for item in items:
        endpoint, separator, url = item.partition("=")
        if not separator:
            raise click.BadParameter(f"{item!r}: write it as ID=URL")
        moved[endpoint] = url
    return moved


study_argument = click.argument("study", type=click.Path(dir_okay=False, path_type=Path))
base_urls_option = click.option(
    "--base-url",
    "base_urls",
    multiple=True,
    metavar="ID=URL",
    callback=_by_endpoint,
    help="Another address for an endpoint.",
)


def checked_study(path: Path) -> Study:
    """Read a study, and refuse one that cannot be run as it is before anything is started."""
    from fute.check_study import check_study
    from fute.load_study import load_study

    study = load_study(path)
    check_study(study)
    return study


def run_and_show(
    store: str,
    flow: Callable[..., Any],
    show: Callable[[Store, str], None],
    *args: Any,
    exit_of_state: Mapping[str, int] = EXIT_OF_STATE,
    **kwargs: Any,
) -> NoReturn:
    """Run a flow, show what it came to, and end with its exit code.

    Args:
        store: address of the store that the flow writes to.
        show: given the store and the id of the flow run.
    """
    from flows.signals import run_flow
    from storage.store import Store

    state = run_flow(store, flow, *args, **kwargs)

    def shown() -> None:
        show(Store(store), str(state.state_details.flow_run_id))

    sys.exit(end_of_run(state, shown, exit_of_state))


def print_plan(study: str, plan: Plan, as_json: bool) -> None:
    """What `fute check` and the dry runs say: each step, its calls, and what they are likely to cost."""
    if as_json:
        click.echo(json_text([step.model_dump() for step in plan.steps], indent=2, ascii=True))
        return
    table = PlainTable("stage", "subject", "state", "LLM calls", "about US$", title=f"study {study}")
    for step in plan.steps:
        usd = "" if step.cost is None or step.cost.usd is None else f"{step.cost.usd:.4f}"
        table.add_row(step.stage, step.subject, step.state, "" if step.calls is None else str(step.calls), usd)
    console().print(table)
    click.echo(printable(plan.summary()))


def end_of_run(state: State[Any], show: Callable[[], None], exit_of_state: Mapping[str, int] = EXIT_OF_STATE) -> int:
    """Show what a flow came to, or say why it came to nothing; the exit code."""
    if state.is_completed() or state.name in exit_of_state:
        show()
        return 0 if state.is_completed() else exit_of_state[str(state.name)]
    cause = state.result(raise_on_failure=False)
    if isinstance(cause, FuteError) or not isinstance(cause, BaseException):
        click.echo(f"error: {printable(cause if isinstance(cause, FuteError) else state.message)}", err=True)
        return EXIT_FAILED
    raise cause
