"""The command line: the answer first, then where it lies. Each command is a thin skin over one function."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path

# Before Prefect is imported. Its console is quiet (flows/commands.py), since our lines say what goes on; the Prefect UI
# gets both. Analytics are off: beside privacy, they make the temporary server's database lock up now and then.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Bars and notices of libraries, which would bury the lines of the run.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import click

from flows.align_cli import align, export_space, import_space
from flows.commands import Commands
from flows.console import console, show_progress
from flows.drift_cli import drift, identify
from flows.init_cli import init
from flows.match_cli import match
from flows.rows import accuracy_told, print_rows, to_json
from flows.run_command import (
    EXIT_FAILED,
    base_urls_option,
    checked_study,
    print_plan,
    run_and_show,
    study_argument,
)
from flows.schedule_cli import schedule
from flows.select_cli import select
from flows.sql_cli import maintain, nearest, retire, sql
from flows.store_option import known_store, store_address_option, store_option
from fute.errors import ModelError
from fute.json_text import json_text
from fute.terminal import printable


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fute")
def main() -> None:
    """Datasets, models and prompted LLMs in one vector space."""


@main.command()
@study_argument
@base_urls_option
@click.option("--go-on", is_flag=True, help="Ask about all inputs, even where the first 100 answers are the same.")
def run(study: Path, base_urls: dict[str, str], go_on: bool) -> None:
    """Run a study: ingest, surrogate, embed, unify, report."""
    loaded = checked_study(study)
    from tasks.endpoints import check_keys

    check_keys(loaded, blocks=False)  # those need a Prefect server: the flow looks for them
    show_progress()

    from flows.results import print_results, print_run
    from flows.unchanged import run_unchanged
    from storage.store import Store

    if (finished := run_unchanged(loaded, base_urls)) is not None:
        print_run(console(), Store(loaded.store_address), finished)
        return

    logging.getLogger("flows").info("starting Prefect: half a minute, where no server is running yet")
    from flows.pipeline import pipeline

    show = partial(print_results, console())
    run_and_show(loaded.store_address, pipeline, show, str(study), base_urls or None, go_on)


@main.command()
@study_argument
@click.option("--json", "as_json", is_flag=True, help="As JSON: the matrix and every method's measures.")
def transfer(study: Path, as_json: bool) -> None:
    """Fine-tune from each source of a study to each target with few rows; say which embedding finds the best source."""
    loaded = checked_study(study)
    show_progress()

    from flows.transfer import transfer as transfer_flow
    from flows.transfer_results import print_transfer

    show = partial(print_transfer, console(), as_json=as_json)
    run_and_show(loaded.store_address, transfer_flow, show, str(study))


@main.command()
@study_argument
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check(study: Path, as_json: bool) -> None:
    """Say what a run would do, what is in the store already, and how many LLM calls it would make. Changes nothing.

    Functions, pipelines and tables of predictions that were not asked yet are tried on three rows of the pool.
    """
    from tasks.plan import plan

    loaded = checked_study(study)
    planned = plan(loaded)
    print_plan(loaded.name, planned, as_json)
    if planned.faults:
        raise ModelError("a run would fail in part:\n" + "\n".join(f"  - {fault}" for fault in planned.faults))


@main.command()
@click.argument("study", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON, one object a check.")
@store_address_option
def doctor(study: Path | None, as_json: bool, store: str) -> None:
    """Check the installation, the servers, GPU, hub and store, and with a STUDY its keys too (never shown)."""
    from flows.doctor import examine, print_findings

    findings = examine(study, store)
    if as_json:
        click.echo(json_text([finding._asdict() for finding in findings], indent=2, ascii=True))
    else:
        print_findings(findings, click.echo)
    sys.exit(EXIT_FAILED if any(finding.status == "problem" for finding in findings) else 0)


@main.command()
@click.argument("section", required=False)
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON Schema.")
def schema(section: str | None, as_json: bool) -> None:
    """Print every field of a study file, or of one SECTION (pool, models, sklearn ...): type, default and meaning."""
    from fute.config import Study
    from fute.schema_text import describe, describe_section

    if as_json:
        click.echo(json.dumps(Study.model_json_schema(), indent=2))
    else:
        click.echo(describe(Study) if section is None else describe_section(Study, section))


@main.command()
@click.argument("view", required=False)
@click.option("--json", "form", flag_value="json", help="As JSON, one object a row.")
@click.option("--csv", "form", flag_value="csv", help="As CSV.")
@store_option
def ls(view: str | None, form: str | None, store: Path) -> None:
    """List what the store holds: its views, or the rows of one (datasets, models, spaces, runs ...)."""
    from storage import listing

    columns, rows = listing.views(known_store(store)) if view is None else listing.rows(known_store(store), view)
    print_rows(columns, rows, form)


ONLY_IN_JSON = ("ci_low", "ci_high", "p_value", "ahead", "ahead_low", "ahead_high")


@main.command()
@click.argument("subject")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@store_option
def show(subject: str, as_json: bool, store: Path) -> None:
    """Show one dataset, model, prompt, pool or space: what it is, and what is nearest to it."""
    from storage import listing

    root = known_store(store)
    found = listing.show(root, subject)
    if "model" in found:
        from storage.store import Store
        from tasks.turned import turned_against

        if turned := turned_against(Store(root), found["model"][0]["id"]):
            found["turned against"] = turned
    if as_json:
        click.echo(to_json(found))
        return
    for kind, entries in sorted(found.items(), key=lambda each: each[0] == "nearest"):  # last
        if kind == "turned against":
            for entry in entries:
                says = ", ".join(f"{mine!r} where it says {its!r}" for mine, its in entry["stands_for"].items())
                click.echo(f"turned against {printable(entry['model'])} ({entry['probability']:.3f} sure): says {says}")
            continue
        if kind == "nearest":
            click.echo("nearest (--json has intervals and p-values)")
            entries = accuracy_told(entries)
            of_both = len({e["query_kind"] for e in entries}) > 1  # a dataset and a model of one name
            hidden = ONLY_IN_JSON if of_both else (*ONLY_IN_JSON, "query_kind")
            columns = [name for name in (entries[0] if entries else ()) if name not in hidden]
            print_rows(columns, [tuple(e[name] for name in columns) for e in entries], None)
            continue
        for entry in entries:
            click.echo(kind)
            for name, value in entry.items():
                if value is not None:
                    click.echo(f"  {name:<20} {printable(value)}")


@main.command()
@store_address_option
def atlas(store: str) -> None:
    """Write one page of everything in the store: maps, groups, drift, and a view of each subject."""
    from storage.store import Store
    from tasks.atlas import AtlasReader, write_store_page

    opened = Store(store).pull()
    known_store(opened.root)
    with AtlasReader(opened) as reader:
        click.echo(write_store_page(reader, reader.failures()))
    opened.push()


@main.command()
@click.option("--port", default=4200, show_default=True, help="Port of the Prefect server and UI.")
@click.option("--mlflow-port", default=5000, show_default=True, help="Port of the MLflow UI.")
@click.option("--pages-port", default=4201, show_default=True, help="Port of the pages that Prefect's page links to.")
@store_option
def up(port: int, mlflow_port: int, pages_port: int, store: Path) -> None:
    """Start a Prefect server, a worker, the MLflow UI and what serves pages, on loopback. Ctrl-C ends them.

    Works in any folder: relative paths of runs start there. `fute schedule` then runs studies by the clock.

    When one of them ends by itself, the others are ended as well, and this command with an error.
    """
    from flows.services import Ports, services

    # Ended by a supervisor, it ends what it started as it does on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ports = Ports(port, mlflow_port, pages_port)
    with services(Path.cwd(), store.resolve(), ports) as running:
        click.echo(f"\nPrefect  http://127.0.0.1:{port}\nMLflow   http://127.0.0.1:{mlflow_port}")
        click.echo(f"run one  PREFECT_API_URL={ports.api_url} prefect deployment run embed/adhoc\nCtrl-C ends all")
        with contextlib.suppress(KeyboardInterrupt):
            running.watch()


for command in (
    align,
    export_space,
    import_space,
    drift,
    identify,
    init,
    match,
    schedule,
    select,
    sql,
    nearest,
    retire,
    maintain,
):
    main.add_command(command)
main.offer_debug()

if __name__ == "__main__":
    main()
