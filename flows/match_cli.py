"""`fute match`: which stored model fits a file or dataset, and how often it will be right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.console import show_progress
from flows.rows import print_rows, to_json
from flows.store_option import known_store, store_option

if TYPE_CHECKING:
    from tasks.match import Match, Matched

COLUMNS = ["model", "kind", "right in", "9 of 10 cases", "note", "score"]


@click.command()
@click.argument("target", metavar="FILE_OR_DATASET")
@click.option("--text", default="text", show_default=True, help="Column of a file's texts.")
@click.option("--text-pair", help="Column of a file's second texts.")
@click.option("--label", default="label", show_default=True, help="Column of a file's labels.")
@click.option("--rows", default=1000, show_default=True, type=click.IntRange(20), help="Labelled texts at most.")
@click.option("--space", help="Of this space; else of the one with the most models.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(1), help="How many models to show.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, all models.")
@store_option
def match(
    target: str,
    text: str,
    text_pair: str | None,
    label: str,
    rows: int,
    space: str | None,
    k: int,
    as_json: bool,
    store: Path,
) -> None:
    """Which stored model fits a labelled file (CSV, Parquet, JSONL) or dataset, and how often will it be right?

    Asks no model and trains nothing: what a model answered on the pool says what it would answer on these texts.
    """
    root = known_store(store)
    show_progress()
    from storage.store import Store
    from tasks.match import match as find

    found = find(Store(root), target, text=text, text_pair=text_pair, label=label, rows=rows, space=space)
    if as_json:
        click.echo(to_json(asdict(found) | {"better": [m.model for m in found.better()]}))
        return
    click.echo("\n".join(answer(found)))
    shown = found.models[:k]
    print_rows(COLUMNS, [_cells(found, m) for m in shown], None)
    if len(found.models) > k:
        click.echo(f"of {len(found.models)} models; -k shows more")
    click.echo(
        f"\nNobody was asked: what a model answered on the {found.pool_texts} texts of its pool says what it would\n"
        "answer here. Each of its classes is read as the label that it goes with (--json says which).\n"
        "score: how near it is to the target's task, as `fute nearest` says it."
    )


def answer(found: Match) -> Iterator[str]:
    """What a reader wants to know first."""
    yield (
        f"{found.target}: {found.texts} labelled texts, {len(found.labels)} labels; always "
        f"{found.most_frequent!r} would be right in {found.majority:.2f}."
    )
    better = found.better()
    if not better:
        yield "No model is surely better than that."
    else:
        yield from _best(better)
    near = [m.model for m in found.models if m.accuracy is None and m.verdict in ("fits", "may fit")]
    if near:
        yield f"Near the task by their scores, but how often they will be right is unknown: {', '.join(near[:5])}."
    yield ""


def _best(better: list[Matched]) -> Iterator[str]:
    first = better[0]
    assert first.accuracy is not None
    yield (
        f"{first.model} will be right in about {first.accuracy.expected:.2f} of such texts "
        f"({first.accuracy.low:.2f} to {first.accuracy.high:.2f})."
    )
    beside = [m.model for m in better[1:] if m.accuracy and m.accuracy.high >= first.accuracy.expected]
    if beside:
        yield f"As good, as far as this tells: {', '.join(beside[:5])}{' ...' if len(beside) > 5 else ''}."
    for model in better:
        if model.turned:
            yield f"{model.model} has its labels turned: read by their names it would be right in {model.as_named:.2f}."


def _cells(found: Match, model: Matched) -> tuple[object, ...]:
    score = None if model.score is None else round(model.score, 1)
    if model.accuracy is None:
        return model.model, model.kind, "unknown", "", model.unknown, score
    within = f"{model.accuracy.low:.2f} to {model.accuracy.high:.2f}"
    told = ""
    if model.accuracy.low <= found.majority:
        perhaps = "perhaps " if model.accuracy.expected > found.majority else ""
        told = f"{perhaps}no better than always {found.most_frequent!r}"
    return model.model, model.kind, f"{model.accuracy.expected:.2f}", within, told, score
