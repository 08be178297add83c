"""What `fute match` prints of a target with labels: an answer in sentences, then the models as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import click

from flows.rows import print_rows, to_json
from fute.did_you_mean import listed
from tasks.matched import Match, Matched

SHOWN = 5
"""Names in a sentence."""
COLUMNS = ["model", "kind", "right in", "9 of 10 cases", "of each label", "note", "score", "task"]


def print_match(found: Match, k: int, as_json: bool) -> None:
    """Print the answer and the first k models; as JSON, all of them."""
    better = found.better()
    if as_json:
        click.echo(to_json(asdict(found) | {"better": [m.model for m in better]}))
        return
    click.echo("\n".join(answer(found, better)))
    print_rows(COLUMNS, [_cells(found, m, m in better) for m in found.models[:k]], None)
    if len(found.models) > k:
        click.echo(f"of {len(found.models)} models; -k shows more")
    click.echo(
        f"\nNobody was asked: what a model of space {found.space} answered on the {found.pool_texts} texts of its\n"
        "pool says what it would answer here. A class is the label that it is called like, or else the one that\n"
        "it goes with (--json says which). of each label: of the texts of one label, on average over labels.\n"
        "score, task: how near it is to the target, and whether it does the same, as `fute nearest` says it."
    )
    click.echo("Best first: those that are surely better than always one label, then by how often they will be right.")


def answer(found: Match, better: Sequence[Matched]) -> Iterator[str]:
    """What a reader wants to know first."""
    yield (
        f"{found.target}: {found.texts} labelled texts, {len(found.labels)} labels; always "
        f"{found.most_frequent!r} would be right in {found.majority:.2f}."
    )
    if found.left_out:
        yield f"{found.left_out} rows were left out: without a text, a second text or a label, or there twice."
    yield from (f"note: {caution}" for caution in found.cautions)
    if found.split == "train":
        yield "It has no test split: these are the texts that models may have been trained on."
    if better:
        yield from _best(better, found.labels)
    elif why := _of_all(found):
        yield f"How often models will be right is unknown: {why}."
    else:
        yield "No model is surely better than that."
    near = [m.model for m in found.models if m.accuracy is None and m.verdict in ("fits", "may fit")]
    if near:
        yield f"Near the task by their scores, but how often they will be right is unknown: {listed(near, SHOWN)}."
    yield ""


def _best(better: Sequence[Matched], labels: Sequence[str]) -> Iterator[str]:
    first = better[0]
    assert first.accuracy is not None
    yield (
        f"{first.model} will be right in about {first.accuracy.expected:.2f} of such texts "
        f"({first.accuracy.low:.2f} to {first.accuracy.high:.2f})."
    )
    if first.balanced is not None and not first.accuracy.surely_above_chance(1):
        # No more often than always giving the frequent label: what it is good for is to find the others.
        yield (
            f"It finds {first.balanced.expected:.2f} of each label's texts on average "
            f"({first.balanced.low:.2f} to {first.balanced.high:.2f}); one label for all would find "
            f"{first.balanced.chance:.2f}."
        )
    if missed := [label for label in labels if label not in first.meaning.values()]:
        yield f"It never answers {listed(missed, SHOWN)}."
    if any(name.casefold() != label.casefold() for name, label in first.meaning.items()):
        read = [f"{name} as {label}" for name, label in first.meaning.items()]
        yield f"Its classes are read so: {listed(read, SHOWN)}."
    beside = [m.model for m in better[1:] if m.accuracy and m.accuracy.high >= first.accuracy.expected]
    if beside:
        yield f"As good, as far as this tells: {listed(beside, SHOWN)}."
    if turned := [m.model for m in better if m.turned]:
        yield f"They go with these labels in another order than their classes are named: {listed(turned, SHOWN)}."


def _of_all(found: Match) -> str | None:
    """Why nothing is known of any model, by the reason of most; None: of some it is known."""
    unknown = [m.unknown for m in found.models if m.accuracy is None]
    return max(set(unknown), key=unknown.count) if len(unknown) == len(found.models) else None


def _cells(found: Match, model: Matched, better: bool) -> tuple[object, ...]:
    near = None if model.score is None else round(model.score, 1), model.verdict
    if model.accuracy is None:
        own = "" if model.unknown == _of_all(found) else model.unknown  # the sentence above the table says it once
        return model.model, model.kind, "unknown", "", "", own, *near
    within = f"{model.accuracy.low:.2f} to {model.accuracy.high:.2f}"
    perhaps = "perhaps " if model.accuracy.expected > found.majority else ""
    counted = "counted on its held-out texts" if model.agreement is None else ""
    told = counted if better else f"{perhaps}no better than always {found.most_frequent!r}"
    if better and model.turned:
        told = "turned: " + listed([f"{name} means {label}" for name, label in model.meaning.items()], SHOWN)
    of_each = "" if model.balanced is None else f"{model.balanced.expected:.2f}"
    return model.model, model.kind, f"{model.accuracy.expected:.2f}", within, of_each, told, *near
