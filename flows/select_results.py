"""What `fute select prompts` says: the ranked candidates, the recommendation, and what it cost."""

from __future__ import annotations

import shlex

from rich.console import Console

from flows.console import PlainTable, number, say
from fute.json_text import json_text
from fute.select.ranking import BASELINES
from storage.store import Store
from tasks.select import EVALUATION, SPELL, Choice, PromptSelection, read_selection


def print_selection(console: Console, store: Store, flow_run_id: str, as_json: bool) -> None:
    """What a flow run chose, what it cost and what failed."""
    selection = read_selection(store, flow_run_id)
    if as_json:
        say(console, json_text(selection.model_dump(mode="json"), indent=2, ascii=True))
        return
    console.print(choices_table(selection))
    say(console, recommendation(selection))
    if selection.others:
        say(console, f"Other methods: {others(selection)}")
    say(console, f"Spent: {spent(selection)}")
    for failure in selection.failures:
        say(console, f"failed: {failure.subject} ({failure.stage}): {failure.reason}")
    say(console, f"\nstore  {store.root}")
    root = shlex.quote(str(store.root))
    say(console, f"  fute sql --store {root} \"SELECT * FROM evaluations WHERE name = '{EVALUATION}'\"")


def choices_table(selection: PromptSelection) -> PlainTable:
    title = f"Which prompt fits {selection.target.name} ({selection.target.rows} texts, no labels; {selection.method})"
    calibrated = any(choice.calibration != "none" for choice in selection.choices)
    table = PlainTable(
        "rank",
        "candidate",
        "score",
        "score's spread",
        "best in",
        "expected accuracy",
        "texts",
        "answered",
        "calls",
        "tokens",
        *(["calibration"] if calibrated else []),
        title=title,
    )
    for rank, choice in enumerate(selection.choices, start=1):
        table.add_row(
            rank,
            choice.id,
            number(choice.score),
            interval(choice),
            "" if choice.best is None else f"{choice.best:.0%}",
            right_in(choice),
            choice.rows,
            f"{choice.answered:.0%}",
            choice.calls,
            choice.tokens,
            *([choice.calibration] if calibrated else []),
        )
    return table


def right_in(choice: Choice) -> str:
    """How often it will be right, and within what that lies."""
    if choice.expected_accuracy is None:
        return "unknown"
    return (
        f"{number(choice.expected_accuracy, 2)} ({number(choice.accuracy_low, 2)} to {number(choice.accuracy_high, 2)})"
    )


def recommendation(selection: PromptSelection) -> str:
    """Whom to take, and who cannot be told apart from it."""
    first, *rest = selection.choices
    said = f"Recommended: {first.id} (prompt {first.prompt}, endpoint {first.endpoint})."
    if selection.undecided:
        said = f"Nobody is recommended: {selection.undecided}. First by {selection.method}: {first.id}."
    lowest = first.ci_low  # not its score: the first has won by luck in part
    close = [c.id for c in rest if lowest is not None and c.ci_high is not None and c.ci_high >= lowest]
    if close:
        said += f" Not told apart from it by these texts: {', '.join(close)}."
    if lowest is None and rest and selection.method != SPELL:
        said += " How far these texts tell candidates apart is not known."
    if first.bias is not None and selection.method != SPELL:
        added = ", ".join(f"{label} {value:+.2f}" for label, value in first.bias.items())
        said += (
            f" It was chosen calibrated ({first.calibration}) and must be used so: "
            f"add to the logarithm of each label's probability {added}."
        )
    if selection.method == SPELL:
        said += " This says how naturally the prompts read to their models, and nothing of their answers."
    elif selection.references:
        said += f" References: {', '.join(selection.references)}."
    else:
        said += " No references: if most candidates ask the opposite of what they should, or always say the same, "
        said += "this cannot be seen."
    return said


def others(selection: PromptSelection) -> str:
    """What the baselines would choose, those of one choice together."""
    chosen: dict[str, list[str]] = {}
    for name, candidate in selection.others.items():
        if name in BASELINES or name == "consensus":
            chosen.setdefault(candidate, []).append(name)
    return "; ".join(f"{candidate} ({', '.join(names)})" for candidate, names in chosen.items())


def spent(selection: PromptSelection) -> str:
    calls = sum(c.calls for c in selection.choices)
    tokens = sum(c.tokens for c in selection.choices)
    prices = [c.usd for c in selection.choices]
    usd = "" if None in prices else f", ${sum(p for p in prices if p is not None):.4f}"
    share = f"{selection.share:.0%} of asking everything (answers in the store are free)"
    return f"{calls} calls, {tokens} tokens{usd}; {share}"


def interval(choice: Choice) -> str:
    return "" if choice.ci_low is None else f"{number(choice.ci_low)} to {number(choice.ci_high)}"
