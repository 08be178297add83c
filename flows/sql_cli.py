"""`fute sql`, `fute nearest`, `fute retire` and `fute maintain`: looking at a store, and its upkeep."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.console import show_progress
from flows.rows import accuracy_told, print_rows, write_rows
from flows.run_command import end_of_run
from flows.store_option import known_store, store_address_option, store_option
from fute.errors import StoreError
from fute.terminal import printable

if TYPE_CHECKING:
    from fute.types import Kind

FORMATS = ("table", "json", "csv", "parquet")


@click.command()
@click.argument("query", required=False)
@click.option("--format", "form", type=click.Choice(FORMATS), help="How to write it; else as the ending of --out says.")
@click.option("--json", "form", flag_value="json", help="As JSON, one object a row.")
@click.option("--csv", "form", flag_value="csv", help="As CSV.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file instead.")
@click.option(
    "--export",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="CATALOG.duckdb",
    help="No query: write a DuckDB file with all views, for BI tools and notebooks.",
)
@store_option
def sql(query: str | None, form: str | None, out: Path | None, export: Path | None, store: Path) -> None:
    """Run a SQL query over the store's views (see `fute ls`)."""
    if (query is None) == (export is None):
        raise click.UsageError("give a query, or --export and a file name")
    root = known_store(store)
    if export is not None:
        from storage.export import export_catalog

        export_catalog(root, export)
        click.echo(f"{export}\nIts views read {root}; after a move of the store, export it again.")
        return
    if form is None and out is not None and out.suffix[1:] in FORMATS:
        form = out.suffix[1:]
    if form == "parquet" and out is None:
        raise click.UsageError("--format parquet needs --out and a file name")
    import pyarrow.parquet as pq

    from storage.catalog import Catalog

    with Catalog(root) as catalog:
        if out is not None and form == "parquet":
            table = catalog.arrow(str(query))
            with _explain_unwritable(out):
                pq.write_table(table, out, compression="zstd")
            count = table.num_rows
        else:
            answer = catalog.query(str(query))
            if not answer.rows:
                _explain_empty(root, str(query))
            if out is None:
                print_rows(answer.columns, answer.rows, None if form == "table" else form)
                return
            with _explain_unwritable(out), out.open("w", newline="", encoding="utf-8") as file:
                write_rows(answer.columns, answer.rows, form, file)
            count = len(answer.rows)
    click.echo(f"{out}: {count} row{'' if count == 1 else 's'}", err=True)


def _explain_empty(root: Path, query: str) -> None:
    from storage.listing import unknown_names

    for line in unknown_names(root, query):
        click.echo(f"note: {printable(line)}", err=True)


@contextmanager
def _explain_unwritable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StoreError(f"{path} cannot be written ({exc}); give another place") from exc


@click.command()
@click.argument("subject")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1), help="How many of each kind.")
@click.option("--space", help="In this space only.")
@click.option(
    "--kind",
    type=click.Choice(["dataset", "model"]),
    help="What SUBJECT is, where a dataset and a model share the name; candidates of both kinds are shown.",
)
@click.option("--json", "form", flag_value="json", help="As JSON, one object a row.")
@click.option("--csv", "form", flag_value="csv", help="As CSV.")
@store_option
def nearest(subject: str, k: int, space: str | None, kind: Kind | None, form: str | None, store: Path) -> None:
    """The nearest datasets and models of a subject, looked for now among all that is stored."""
    from storage.nearest import NEAREST
    from storage.nearest import nearest as find
    from storage.store import Store

    rows = find(Store(known_store(store)), subject, k, space, kind)
    names = NEAREST.names
    if form is None and rows:
        rows = accuracy_told(rows)
        names = list(rows[0])
    print_rows(names, [tuple(row[name] for name in names) for row in rows], form)


@click.command()
@click.argument("subjects", nargs=-1, required=True)
@click.option("--kind", type=click.Choice(["dataset", "model"]), help="Where both are called so.")
@click.option("--undo", is_flag=True, help="Rank them again.")
@store_address_option
def retire(subjects: tuple[str, ...], kind: Kind | None, undo: bool, store: str) -> None:
    """Leave datasets or models out of all rankings and matches; what is stored of them stays."""
    from storage.listing import subjects_named
    from storage.retirements import bring_back, retired
    from storage.retirements import retire as take_out
    from storage.stamp import Stamp
    from storage.store import Store

    opened = Store(store).pull()
    known_store(opened.root)
    keys = subjects_named(opened.root, subjects, kind)
    if undo:
        keys &= retired(opened.root)
    (bring_back if undo else take_out)(opened, keys, Stamp())
    opened.push()
    for of_kind, subject in sorted(keys):
        click.echo(f"{of_kind} {printable(subject)}: {'counts again' if undo else 'retired'}")
    if undo:
        told = "The next run ranks them." if keys else "None of them was retired."
        click.echo(told, err=True)
    else:
        click.echo("A run of a study that names them brings them back, and so does --undo.", err=True)


@click.command()
@click.option("--min-files", type=click.IntRange(2), help="Leave folders with fewer small files.  [default: 16]")
@store_address_option
def maintain(min_files: int | None, store: str) -> None:
    """Fold small files into larger ones and name damaged ones; safe while runs and readers are at work."""
    from storage.store import Store

    address = Store(store).address
    show_progress()
    from flows.maintain import maintain as maintain_flow
    from flows.signals import run_flow

    options = {} if min_files is None else {"min_files": min_files}
    state = run_flow(address, maintain_flow, store=address, **options)

    def show() -> None:
        if not state.is_completed():  # such a state has no result
            click.echo(f"warning: {state.message}", err=True)
            return
        result = state.result()
        folded = [folder for folder in result.folders if folder.parts]
        for folder in folded:
            click.echo(f"{folder.folder}: {folder.files} files folded into {folder.parts}")
        if not folded:
            click.echo("nothing to do")

    sys.exit(end_of_run(state, show))
