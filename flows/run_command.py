"""What commands that run a flow have in common: their options, and their exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fute.errors import FuteError
from fute.terminal import printable

if TYPE_CHECKING:
    from prefect.states import State

EXIT_FAILED = 1
EXIT_WITH_FAILURES = 3
EXIT_INTERRUPTED = 130


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


def end_of_run(state: State[Any], show: Callable[[], None]) -> int:
    """Show what a flow came to, or say why it came to nothing; the exit code."""
    if state.is_completed() or state.name == "CompletedWithFailures":
        show()
        return 0 if state.is_completed() else EXIT_WITH_FAILURES
    cause = state.result(raise_on_failure=False)
    if isinstance(cause, FuteError) or not isinstance(cause, BaseException):
        click.echo(f"error: {printable(cause if isinstance(cause, FuteError) else state.message)}", err=True)
        return EXIT_FAILED
    raise cause
