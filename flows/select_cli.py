"""`fute select`: choosing without labels. A thin skin over the flow."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from flows.console import console, show_progress
from flows.run_command import base_urls_option, checked_study, print_plan, run_and_show, study_argument


def a_share(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value <= 1:  # also where it is no number at all
        raise click.BadParameter(f"{value:g} is no share; give more than 0 and at most 1")
    return value


@click.group()
def select() -> None:
    """Choose among candidates without labels."""


@select.command()
@study_argument
@click.option(
    "--target",
    required=True,
    metavar="DATASET_OR_FILE",
    help="A dataset of the study (labels are not looked at), or a Parquet, CSV or JSONL file.",
)
@click.option("--text", default="text", show_default=True, help="Column of a file's texts.")
@click.option("--text-pair", help="Column of a file's second texts.")
@click.option("--prompt", "prompts", multiple=True, metavar="ID", help="Choose from these prompts only.")
@click.option(
    "--share", type=float, callback=a_share, help="Make at most this share of the calls about texts (1: all)."
)
@base_urls_option
@click.option("--dry-run", is_flag=True, help="Only say how many calls it would make, and what they would cost.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def prompts(
    study: Path,
    target: str,
    text: str,
    text_pair: str | None,
    prompts: tuple[str, ...],
    share: float | None,
    base_urls: dict[str, str],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Which prompt on which LLM fits a target without labels? Asks, ranks, and says what it cost."""
    loaded = checked_study(study)
    # A file is named from where the command runs; the flow starts relative paths at the study's folder.
    named = target if target in {d.id for d in loaded.datasets} else str(Path(target).resolve())
    if dry_run:
        from flows.base_urls import with_base_urls
        from tasks.dry_runs import plan_selection

        plan = plan_selection(with_base_urls(loaded, base_urls), named, text, text_pair, prompts, share)
        print_plan(loaded.name, plan, as_json)
        return
    show_progress()

    from flows.select_prompts import select_prompts
    from flows.select_results import print_selection

    asked = (str(study), named, text, text_pair, list(prompts) or None, share, base_urls or None)
    run_and_show(loaded.store_address, select_prompts, partial(print_selection, console(), as_json=as_json), *asked)
