"""`fute schedule`: studies by the clock, on a Prefect server that runs."""

from __future__ import annotations

import re
from dataclasses import asdict, astuple
from datetime import timedelta
from pathlib import Path

import click

from flows.rows import print_rows, to_json
from flows.run_command import checked_study
from fute.errors import ConfigError
from fute.terminal import printable

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
COLUMNS = ["flow", "study", "file", "when", "active", "next"]


class Interval(click.ParamType):
    """30m, 6h, 1d, 2w."""

    name = "interval"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        found = re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", str(value))
        if found is None:
            self.fail(f"{value!r}: write it as 30m, 6h, 1d or 2w", param, ctx)
        return timedelta(**{UNITS[found[2]]: int(found[1])})


@click.command()
@click.argument("study", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--cron", metavar="TIMES", help='Minute, hour, day, month, weekday: "0 2 * * *" is 02:00 every day.')
@click.option("--every", type=Interval(), metavar="INTERVAL", help="30m, 6h, 1d, 2w.")
@click.option("--timezone", default="UTC", show_default=True, help="In which the times are, such as Europe/Vienna.")
@click.option("--flow", type=click.Choice(["pipeline", "drift", "maintain"]), help="What runs.  [default: pipeline]")
@click.option("--list", "listing", is_flag=True, help="Show what is scheduled, of STUDY or of all.")
@click.option("--remove", is_flag=True, help="Take out what is scheduled of STUDY, or one --flow of it.")
@click.option("--json", "as_json", is_flag=True, help="The list as JSON.")
def schedule(
    study: Path | None,
    cron: str | None,
    every: timedelta | None,
    timezone: str,
    flow: str | None,
    listing: bool,
    remove: bool,
    as_json: bool,
) -> None:
    """Run a study by the clock, on the Prefect server of `fute up` or the one that PREFECT_API_URL names.

    What is in the store already costs nothing; a run waits until the one before it has ended.
    """
    asked = [option for option in (cron, every, listing or None, remove or None) if option is not None]
    if len(asked) != 1 or (study is None and not listing):
        raise click.UsageError("name a STUDY and give one of --cron, --every, --list and --remove")
    file = None if study is None else study.resolve()

    from flows.deployments import prefect_server, schedule_study, scheduled, unschedule

    if file is None or listing:
        with prefect_server() as server:
            found = scheduled(server, file)
        if as_json:
            click.echo(to_json([asdict(each) for each in found]))
        else:
            print_rows(COLUMNS, [astuple(each) for each in found], None)
    elif remove:
        with prefect_server() as server:
            gone = unschedule(server, file, flow)
        if not gone:
            raise ConfigError(f"nothing is scheduled of {file}; `fute schedule --list` shows what is")
        click.echo(printable(f"taken out: {', '.join(gone)}"))
    else:
        loaded = checked_study(file)
        if flow == "drift":
            from fute.expand import watched_models

            watched_models(loaded)  # nothing to watch is said now, not every night
        with prefect_server() as server:
            gone = schedule_study(server, loaded, file, flow or "pipeline", cron=cron, every=every, timezone=timezone)
            (made,) = [each for each in scheduled(server, file) if each.flow == (flow or "pipeline")]
        if gone:
            click.echo(printable(f"taken out, since the study has another name now: {', '.join(gone)}"))
        click.echo(printable(f"{made.flow} of {made.study}: {made.when}; a worker has to be at work then (fute up)"))
