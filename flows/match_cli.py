"""`fute match`: which stored model fits a file or dataset, and how often it will be right."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import ValidationError

from flows.console import show_progress
from flows.run_command import EXIT_FAILED, base_urls_option, checked_study, end_of_run, print_plan
from flows.store_option import known_store, store_option
from fute.did_you_mean import listed

if TYPE_CHECKING:
    from tasks.match_target import Columns
    from tasks.match_unlabelled import Answered


@click.command()
@click.argument("target", metavar="FILE_OR_DATASET")
@click.option("--text", default="text", show_default=True, help="Column of a file's texts.")
@click.option("--text-pair", help="Column of a file's second texts; text_pair, where there is one.")
@click.option("--label", help="Column of a file's labels; label, where there is one.")
@click.option("--separator", help="Between the cells of a CSV file, where it is not found by itself.")
@click.option("--encoding", help="Of a text file, such as cp1251, where it is not found by itself.")
@click.option("--rows", type=click.IntRange(20), help="Texts, at most: 1000; 200 with --ask.")
@click.option("--space", help="Of this space; else of the one with the most models.")
@click.option("--ask", "study", type=click.Path(dir_okay=False, path_type=Path), help="Ask the models of this study.")
@click.option("--model", "models", multiple=True, metavar="ID", help="Ask these only; prompt/* for several.")
@click.option("--classes", default="", metavar="A,B", help="Without labels: look at models that answer these only.")
@click.option("--class", "pair", nargs=2, metavar="A B", help="Only: which model tells these two labels apart?")
@click.option("--labels", type=click.IntRange(0), default=0, metavar="N", help="Have N texts labelled by you (a CSV).")
@click.option("--keep", metavar="ID", help="Keep a labelled file as a dataset of the store, with what is found of it.")
@click.option("--dry-run", is_flag=True, help="With --ask: only say how many calls it would make, and what they cost.")
@base_urls_option
@click.option("-k", default=10, show_default=True, type=click.IntRange(1), help="How many models to show.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, all models.")
@store_option
def match(
    target: str,
    text: str,
    text_pair: str | None,
    label: str | None,
    separator: str | None,
    encoding: str | None,
    rows: int | None,
    space: str | None,
    study: Path | None,
    models: tuple[str, ...],
    classes: str,
    pair: tuple[str, str] | None,
    labels: int,
    keep: str | None,
    dry_run: bool,
    base_urls: dict[str, str],
    k: int,
    as_json: bool,
    store: Path,
) -> None:
    """Which model fits a file (CSV, Parquet, JSONL) or dataset, and how often will it be right?

    Asks no model and trains nothing: what a model answered on the pool says what it would answer on these texts. With
    --ask the models of a study answer the texts themselves. A file without labels gets what can be said without. With
    --class A B only texts of these two labels count: which model tells them apart, and by which of its classes?
    """
    for option, given in (("--model", models), ("--dry-run", dry_run), ("--base-url", base_urls)):
        if given and study is None:
            raise click.UsageError(f"{option} is for --ask STUDY: nobody is asked without")
    unmet = {"--ask": study, "--keep": keep, "--labels": labels, "--classes": classes}
    if pair and (given_too := [option for option, value in unmet.items() if value]):
        raise click.UsageError(f"--class A B is for a match without {', '.join(given_too)}")
    from tasks.match_target import Columns

    try:
        columns = Columns(text=text, text_pair=text_pair, label=label, separator=separator, encoding=encoding)
    except ValidationError as exc:
        raise click.UsageError("; ".join(f"--{e['loc'][0]}: {e['msg']}" for e in exc.errors())) from exc
    if keep is not None and study is not None:
        raise click.UsageError("--keep is for a match without --ask; a study keeps its datasets in its file")
    named = [name.strip() for name in classes.split(",") if name.strip()]
    # In the folder that the command runs in, which is where the same command finds it again.
    labels_file = Path.cwd() / f"{Path(target).stem}.to_label.csv"
    path = Path(target).expanduser()
    _check_fit(path, columns, keep=keep, rows=None if study or pair else rows)
    if study is not None:
        if space is not None:
            raise click.UsageError("--space is for a match without --ask: the models of the study are asked")
        asked = {
            "models": list(models) or None,
            "rows": rows or 200,
            "labels": labels,
            "labels_file": str(labels_file),
            "classes": named,
            "base_urls": base_urls or None,
        }
        _ask(study, target, columns, asked, dry_run=dry_run, k=k, as_json=as_json)
        return
    root = known_store(store)
    show_progress()
    from storage.store import Store

    if pair:
        from flows.class_results import print_by_class
        from tasks.match_classes import match_classes

        print_by_class(match_classes(Store(root), target, pair, columns, space, rows or 1000), k, as_json)
        return
    if path.is_file() and not columns.labelled(path):
        from tasks.match_unlabelled import match_unlabelled

        if keep is not None:
            raise click.UsageError(f"--keep needs labels, and {target} has none (--label names their column)")
        known = partial(match_unlabelled, Store(root), path, columns, space, rows or 1000, labels_file, labels, named)
        _show_and_label(known, k, as_json)
        return
    if classes or labels:
        option = "--classes" if classes else "--labels"
        raise click.UsageError(f"{option} is for a file without labels, and {target} is not one")
    from flows.match_answer import print_match
    from tasks.match import match as find

    found = find(Store(root), target, columns=columns, space=space, rows=rows or 1000, keep=keep)
    print_match(found, k, as_json)
    if keep is not None and not as_json:
        click.echo(f"Kept as dataset {keep}: `fute nearest {keep}`, and the view accuracies in `fute sql`.")


def _check_fit(path: Path, columns: Columns, *, keep: str | None, rows: int | None) -> None:
    """Refuse options of files where the target is a dataset, and say which columns of a file are not looked at.

    Raises:
        UsageError: such an option.
    """
    if not path.is_file():
        given = {f"--{name.replace('_', '-')}": value for name, value in columns.model_dump(exclude={"text"}).items()}
        given |= {"--text": columns.text != type(columns)().text, "--keep": keep, "--rows": rows}
        if unmet := [option for option, value in given.items() if value]:
            raise click.UsageError(f"{', '.join(unmet)}: for a file, and {path} is none")
    elif not columns.labelled(path) and (unused := columns.unused(path)):
        click.echo(
            f"No column 'label', so {path.name} counts as texts without labels. If they are in another column "
            f"({listed(unused)}), name it: --label NAME",
            err=True,
        )


def _ask(
    study: Path, target: str, columns: Columns, asked: dict[str, Any], *, dry_run: bool, k: int, as_json: bool
) -> None:
    """Run the flow.

    Args:
        asked: its other arguments, by name.
    """
    loaded = checked_study(study)
    # A file is named from where the command runs; the flow starts relative paths at the study's folder.
    target = target if target in {d.id for d in loaded.datasets} else str(Path(target).expanduser().resolve())
    from flows.base_urls import with_base_urls
    from tasks.dry_runs import plan_match

    moved = with_base_urls(loaded, asked["base_urls"] or {})
    plan = plan_match(moved, target, columns, asked["models"], asked["rows"])
    if dry_run:
        print_plan(loaded.name, plan, as_json)
        return
    click.echo(plan.summary() if plan.cost.calls else "It makes no LLM calls.", err=True)
    show_progress()
    from flows.match import match as flow
    from flows.signals import run_flow
    from storage.store import Store
    from tasks.match_asked import read_asked

    codes: list[int] = []

    def run() -> Answered:
        state = run_flow(loaded.store_address, flow, str(study), target, columns, **asked)
        codes.append(end_of_run(state, lambda: None))
        if codes[-1] == EXIT_FAILED:
            sys.exit(EXIT_FAILED)
        return read_asked(Store(loaded.store_address), str(state.state_details.flow_run_id))

    _show_and_label(run, k, as_json)
    sys.exit(codes[-1])


def _show_and_label(find: Callable[[], Answered], k: int, as_json: bool) -> None:
    """Show what is found, and, in a terminal, once more with the labels that the person gives there."""
    from flows.label_here import label_here
    from flows.match_results import print_answered

    found = find()
    print_answered(found, k, as_json)
    if found.to_label and not as_json and label_here(Path(found.to_label), found.labels):
        print_answered(find(), k, as_json)
