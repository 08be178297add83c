"""`fute drift` and `fute identify`: has a hosted model changed, and is this endpoint the one that was enrolled?"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from flows.console import console, show_progress
from flows.run_command import base_urls_option, checked_study, print_plan, run_and_show, study_argument

EXIT_OF_DRIFT = {"Drifted": 3, "CompletedWithFailures": 4, "SettingsChanged": 5}
EXIT_OF_IDENTITY = {"Another": 3, "CannotTell": 4}


@click.command()
@study_argument
@click.option("--wire", is_flag=True, help="Ask 10 to 20 rows; the panel where they look otherwise, or once a week.")
@click.option("--renew", is_flag=True, help="Make new baselines of the models as they are now, and check nothing.")
@base_urls_option
@click.option("--dry-run", is_flag=True, help="Only say how many calls it would make, and what they would cost.")
@click.option("--json", "as_json", is_flag=True, help="The dry run as JSON.")
def drift(study: Path, wire: bool, renew: bool, base_urls: dict[str, str], dry_run: bool, as_json: bool) -> None:
    """Ask every prompted model of a study again, and say which no longer answer as they did.

    Exit codes: 0 unchanged; 3 changed; 4 could not be read (endpoint down, refusals, budget); 5 changed by the study's
    own settings, which is told once; 1 nothing could be done.
    """
    from fute.expand import watched_models
    from tasks.endpoints import check_keys

    loaded = checked_study(study)
    watched_models(loaded)  # before anything is started
    if dry_run:
        from flows.base_urls import with_base_urls
        from tasks.dry_runs import plan_drift

        print_plan(loaded.name, plan_drift(with_base_urls(loaded, base_urls), renew, wire), as_json)
        return
    check_keys(loaded, blocks=False)
    show_progress()

    from flows.drift import drift as drift_flow
    from flows.drift_results import print_drift

    run_and_show(
        loaded.store_address, drift_flow, partial(print_drift, console()), str(study),
        exit_of_state=EXIT_OF_DRIFT, base_urls=base_urls or None, renew=renew, wire=wire,
    )  # fmt: skip


@click.command()
@click.argument("endpoint")
@click.option("--as", "reference", required=True, metavar="REFERENCE", help="A watched model, or its endpoint.")
@click.option("--study", type=click.Path(dir_okay=False, path_type=Path), default="study.yaml", show_default=True)
@base_urls_option
def identify(endpoint: str, reference: str, study: Path, base_urls: dict[str, str]) -> None:
    """Is ENDPOINT the model that was enrolled as REFERENCE (another host, a cheaper gateway, a quantised copy)?

    Asks at most 20 texts of REFERENCE's baseline. Exit codes: 0 the same, as far as that can tell; 3 another; 4 it
    cannot tell; 1 nothing could be done.
    """
    loaded = checked_study(study)
    show_progress()

    from flows.identify import identify as identify_flow
    from flows.identify import print_identity

    run_and_show(
        loaded.store_address, identify_flow, partial(print_identity, console()), str(study), endpoint, reference,
        exit_of_state=EXIT_OF_IDENTITY, base_urls=base_urls or None,
    )  # fmt: skip
