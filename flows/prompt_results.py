"""How the prompted models of a space were answered: from what, and how often not at all."""

from __future__ import annotations

from flows.console import PlainTable
from storage.store import Store
from storage.summary import SpaceSummary

READ_FROM = {"from_logprobs": "log-probabilities", "from_text": "text", "from_samples": "samples"}
MISSING = {
    "refusals": "refused",
    "too_long": "too long",
    "failed": "failed",
    "unparsable": "not to be read",
    "empty": "empty",
    "cut_short": "of these cut short",
    "prompts_cut": "prompts cut in their middle",
}


def prompts_table(store: Store, summary: SpaceSummary) -> PlainTable | None:
    """A line for each prompted model; None where the space has none. Inputs without an answer are left out of what is
    learned from a model's outputs, and outputs with too few answers are refused."""
    rows = []
    for entry in summary.population:
        if entry.kind != "model" or entry.row["subject_kind"] != "prompt":
            continue
        ref = f"{entry.subject}@{entry.row['subject_fingerprint']}"
        details = store.outputs_details(summary.space["pool"], ref)
        if details:
            rows.append((entry.subject, details))
    if not rows:
        return None
    # Of columns that are empty throughout there would be many.
    shown = {
        field: name
        for field, name in {**READ_FROM, **MISSING, "without_pair": "no second text"}.items()
        if any(details.get(field) for _, details in rows)
    }
    table = PlainTable("prompted model", *shown.values(), title="How the prompts were answered (inputs)")
    for name, details in rows:
        table.add_row(name, *[details.get(field, 0) for field in shown])
    return table
