"""How the command line tells errors: one message on stderr; with --debug, where it came from as well."""

from __future__ import annotations

import errno
import os
import traceback
from typing import Any

import click

from flows.run_command import EXIT_FAILED, EXIT_INTERRUPTED
from fute.errors import FuteError
from fute.terminal import printable

_DEBUG = "fute.debug"
_CONSOLE_LEVEL = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"

# Of what a flow raises, Prefect logs a traceback and we say the message: on its console the message alone.
os.environ.setdefault(_CONSOLE_LEVEL, "CRITICAL")


def _set_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_DEBUG] = True  # of this context and those within it
        ctx.find_root().meta[_DEBUG] = True
        os.environ[_CONSOLE_LEVEL] = "INFO"  # Prefect is imported by the command itself


_debug_option = click.Option(
    ["--debug"], is_flag=True, expose_value=False, callback=_set_debug, help="Show tracebacks, and Prefect's own lines."
)


class Commands(click.Group):
    """The commands of fute, each of which takes --debug."""

    def offer_debug(self) -> None:
        """Give every command the option; called once all are there."""
        found: list[click.Command] = [self]
        for command in found:
            command.params.append(_debug_option)
            if isinstance(command, click.Group):
                found += command.commands.values()

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # before a flow has begun, or after it has ended
            click.echo("stopped; the same command begins again, or goes on where it ended", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as exc:
            if isinstance(exc, OSError) and exc.errno == errno.EPIPE:  # of `fute ... | head`
                raise
            if ctx.meta.get(_DEBUG):
                click.echo(printable(traceback.format_exc()), err=True)
            click.echo(f"error: {printable(message(exc))}", err=True)
            ctx.exit(EXIT_FAILED)


def message(exc: Exception) -> str:
    if isinstance(exc, FuteError):
        return str(exc)
    return f"{type(exc).__name__}: {exc}\nfute did not expect this; --debug shows where it happened"
