"""What `fute match` says of models that answered a target: how often they are right, and how that is known."""

from __future__ import annotations

from collections.abc import Iterator

import click

from flows.rows import print_rows
from fute.did_you_mean import listed
from fute.json_text import json_text
from fute.terminal import printable
from tasks.match_unlabelled import Answered, Group, Judged

SHOWN = 5
"""Names in a sentence."""
COLUMNS = ["model", "kind", "right in", "9 of 10 cases", "agreement", "answers", "note"]


def print_answered(found: Answered, k: int, as_json: bool) -> None:
    """The verdict on each group of models, a table of each, and what to do next."""
    if as_json:
        click.echo(json_text(found.model_dump(mode="json"), indent=2, ascii=True))
        return
    told = [group for group in found.groups if group.models[0].expected is not None] or found.groups[:1]
    for group in told:
        click.echo(printable("\n".join(_said(found, group))))
        print_rows(COLUMNS, [_cells(m, group) for m in group.models[:k]], None)
        if len(group.models) > k:
            click.echo(f"of {len(group.models)} models; -k shows more")
        click.echo("")
    if unknown := [group for group in found.groups if group not in told]:
        click.echo("How often these are right is unknown (--classes shows one kind):")
        for why in dict.fromkeys(str(group.models[0].unknown) for group in unknown):
            click.echo(printable(f"  {why}:"))
            for group in unknown:
                if group.models[0].unknown == why:
                    who = listed([m.model for m in group.models], SHOWN)
                    click.echo(printable(f"    {who} ({listed(group.labels, SHOWN)})"))
        click.echo("")
    if found.silent:
        click.echo(
            printable(f"Nothing is known of {listed(found.silent, SHOWN)}: nothing says what they would answer here.")
        )
    click.echo(printable("\n".join(_next(found))))


def _said(found: Answered, group: Group) -> Iterator[str]:
    labels = listed(group.labels, SHOWN)
    if found.counted:
        yield (
            f"{found.target}: {found.texts} labelled texts ({labels}), answered by {len(group.models)} models; always "
            f"{group.most_frequent!r} would be right in {group.majority:.2f}."
        )
    else:
        have = (
            f"{group.labelled} of {found.texts} texts have a label"
            if group.labelled
            else f"{found.texts} texts without labels"
        )
        yield f"{found.target}: {have}; {len(group.models)} models answer {labels}."
    first = group.models[0]
    if found.counted and not any(map(group.better, group.models)):
        yield "None of them is surely better than that."
    elif first.expected is None:
        yield f"Nothing says how often they are right: {first.unknown}."
    elif first.low is not None and first.high is not None:
        about = "was right in" if found.counted else "will be right in about"
        # Models agree on what they tell apart, whether or not it is what the reader wants to know of these texts.
        granted = "" if found.counted or group.labelled else "If those are your labels, "
        within = f"{first.expected:.2f} ({first.low:.2f} to {first.high:.2f})"
        yield f"{granted}{first.model} {about} {within}{_by(found, group)}."
        beside = [m.model for m in group.models[1:] if m.high is not None and m.high >= first.expected]
        if beside:
            yield f"Not told apart from it: {listed(beside, SHOWN)}."


def _by(found: Answered, group: Group) -> str:
    if found.counted:
        return ""
    labels = f" and {group.labelled} labels" if group.labelled else ""
    return f", by what they agree on{labels}"


def _cells(model: Judged, group: Group) -> tuple[object, ...]:
    shares = ", ".join(f"{name} {share:.2f}" for name, share in sorted(model.shares.items(), key=lambda s: -s[1])[:3])
    within = "" if model.low is None else f"{model.low:.2f} to {model.high:.2f}"
    note = model.unknown or ""
    if group.majority is not None and not group.better(model):
        perhaps = "perhaps " if (model.expected or 0) > group.majority else ""
        note = f"{perhaps}no better than always {group.most_frequent!r}"
    if model.turned:
        order = ", ".join(f"{said} for {true}" for said, true in model.turned.items() if said != true)
        note = f"turned: seems to say {order}"
    right = "unknown" if model.expected is None else f"{model.expected:.2f}"
    agreement = "" if model.agreement is None else f"{model.agreement:.2f}"
    return model.model, model.kind, right, within, agreement, shares, note


def _next(found: Answered) -> Iterator[str]:
    if found.counted:
        yield (
            "The models answered these texts themselves; a class is the label that it is called like, or else the one\n"
            "that it goes with."
        )
        return
    if found.to_label:
        yield (
            f"Texts whose label would say most are in {found.to_label}: write a label beside each, in the column\n"
            "label, and run the same command again. Those left empty do not count."
        )
    elif not any(group.labelled for group in found.groups):
        yield "With labels of a few texts more can be said: --labels 10 writes those that would say most into a file."
    if not found.asked:
        yield (
            "Nobody was asked: what the models answered on their pool says what they would answer here.\n"
            "--ask STUDY asks them."
        )
    yield "agreement: with the other models of the same labels, from 0, chance, to 1 (mean of Cohen's kappa)."
