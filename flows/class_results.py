"""What `fute match FILE --class A B` says: which models tell two labels apart, by which of their classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import click

from flows.rows import print_rows, to_json
from fute.did_you_mean import listed
from fute.terminal import printable
from tasks.match_classes import ByClass, Teller

SHOWN = 5
"""Names in a sentence."""


def print_by_class(found: ByClass, k: int, as_json: bool) -> None:
    """The verdict, a table of the models, and how it is known."""
    better = found.better()
    if as_json:
        click.echo(to_json(asdict(found) | {"better": [m.model for m in better]}))
        return
    click.echo(printable("\n".join(_said(found, better))))
    columns = ["model", "kind", "right in", "9 of 10 cases", *(f"class for {label}" for label in found.labels), "note"]
    print_rows(columns, [_cells(m, m in better) for m in found.models[:k]], None)
    if len(found.models) > k:
        click.echo(f"of {len(found.models)} models; -k shows more")
    click.echo(
        f"\nNobody was asked: what a model of space {found.space} answered on its pool says what it would answer.\n"
        "right in: of the texts of either label, on average over the two, where of its two classes the more probable\n"
        "is taken and its others are left out. Classes that are called like the labels are taken for them, unless\n"
        "others are clearly right more often. Held-out scores, which a match without --class counts, are not used."
    )


def _said(found: ByClass, better: Sequence[Teller]) -> Iterator[str]:
    texts = " and ".join(f"{n} of {label!r}" for n, label in zip(found.texts, found.labels, strict=True))
    yield f"{found.target}: texts {texts}; chance is right in 0.50."
    if better and (first := better[0]).accuracy and first.classes:
        classes = " and ".join(
            f"{ours!r} for {label!r}" for ours, label in zip(first.classes, found.labels, strict=True)
        )
        yield (
            f"{first.model} tells them apart in about {first.accuracy.expected:.2f} of such texts "
            f"({first.accuracy.low:.2f} to {first.accuracy.high:.2f}), by its classes {classes}."
        )
        beside = [m.model for m in better[1:] if m.accuracy and m.accuracy.high >= first.accuracy.expected]
        if beside:
            yield f"As good, as far as this tells: {listed(beside, SHOWN)}."
    else:
        yield "No model surely tells them apart."
    yield ""


def _cells(model: Teller, better: bool) -> tuple[object, ...]:
    if model.accuracy is None or model.classes is None:
        return model.model, model.kind, "unknown", "", "", "", model.unknown
    within = f"{model.accuracy.low:.2f} to {model.accuracy.high:.2f}"
    note = "" if better else "perhaps by chance"
    return model.model, model.kind, f"{model.accuracy.expected:.2f}", within, *model.classes, note
