"""What a reader of results should know of the data, from what ingest counted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fute.config import PoolConfig
from fute.data.duplicates import normalised
from fute.data.labels import nearly_alike
from fute.data.pool import EvaluatedTexts
from fute.did_you_mean import listed
from fute.types import Dataset, Pool

LEAKED = 0.1
"""Share of held-out rows that are training rows too from which a score on them is called leaked: it may then be up to
so much too high."""
CONTRADICTED = 0.01
"""Share of rows that have the text of another row and another label, from which it is said."""
FEW_A_CLASS = 2
"""Rows of a class, on average, up to which the classes are likely to be ids."""

NO_LABEL = {"na", "n/a", "#n/a", "nan", "null", "-", "?", ""}
"""Cells by which tables say that there is none; `none` is a class of many a task."""
COMMA_NUMBER = re.compile(r"-?\d+(,\d+)?")


def leaked(report: Mapping[str, Any], held_out: str) -> bool:
    """Whether a score on these rows (a split, or train: a part kept aside) is of rows that were trained on, too."""
    return _shared(report, held_out) >= LEAKED


def _shared(report: Mapping[str, Any], held_out: str) -> float:
    """The share of rows of a split that are training rows; of train, those that stand there twice."""
    rows = report.get("splits", {}).get(held_out)
    if rows is None:
        return 0.0
    usable = rows["seen"] - sum(rows["left_out"].values())
    again = report["overlap"][held_out]["normalised"] if held_out != "train" else rows["duplicates_normalised"]
    if held_out == "train":
        again -= rows["left_out"].get("duplicate", 0)
    return again / usable if usable else 0.0


def dataset_cautions(dataset: Dataset) -> list[str]:
    """One line each, with the dataset's name."""
    report, told = dataset.report, []
    for split, rows in report.get("splits", {}).items():
        share = _shared(report, split)
        if share >= LEAKED and split == "train":
            told.append(
                f"{share:.0%} of its training rows stand there more than once; a score on a part of them is leaked"
            )
        elif share >= LEAKED:
            same = f"{split} is train: all" if share == 1 else f"{split}: {share:.0%}"
            told.append(f"{same} of its rows are training rows, so that a held-out score on them is leaked")
        if rows["conflicting_labels"] >= max(1, CONTRADICTED * rows["seen"]):
            told.append(f"{split}: {rows['conflicting_labels']} rows have the text of another row, and another label")
    if dataset.label_names is not None:
        told += _class_cautions(dataset)
    return [f"{dataset.id}: {line}" for line in told]


def _class_cautions(dataset: Dataset) -> Iterable[str]:
    names = dataset.label_names or ()
    rows = len(dataset.train)
    if rows <= FEW_A_CLASS * len(names):
        yield f"{len(names)} classes for {rows} training rows: is the label an id, or a text?"
    for odd in names:
        below = odd == "-1" and "0" in names and all(name.isdecimal() for name in names if name != odd)
        if below or odd.strip().casefold() in NO_LABEL:
            yield f"{odd!r} is a class: if it means that a row has no label, leave these rows out"
    if any("," in name for name in names) and all(COMMA_NUMBER.fullmatch(name) for name in names):
        yield (
            f"labels such as {next(name for name in names if ',' in name)!r} are classes: if they are numbers, write "
            "points for their commas, and task: regression"
        )
    for alike in nearly_alike(names):
        yield (
            f"the labels {listed(map(repr, alike))} differ in capitals, a full stop, or how accents are encoded: "
            "two classes?"
        )
    counts = {split: entry["classes"] for split, entry in dataset.report.get("splits", {}).items()}
    for split, of_each in counts.items():
        if unseen := [name for name, count in of_each.items() if count and not counts["train"][name]]:
            yield f"{split} has labels that none of the training rows used has: {listed(map(repr, unseen))}"


def rows_to_spare(pool: Pool, config: PoolConfig) -> list[str]:
    """That a pool's sources have more rows than were taken."""
    seen = sum(source["seen"] for source in pool.report["sources"].values())
    spared = seen - len(pool) - sum(pool.report["left_out"].values())
    limits = f"rows_per_source is {config.rows_per_source}, max_rows {config.max_rows}"
    return [f"pool: {spared:,} more rows could be taken; {limits}"] if spared > 0 else []


def pool_cautions(pool: Pool, beside: Iterable[Dataset]) -> list[str]:
    """What pool and datasets share.

    Args:
        beside: datasets whose texts were not left out of it.
    """
    left_out = pool.report.get("left_out", {})
    told = []
    if count := left_out.get("evaluated_exact", 0) + left_out.get("evaluated_normalised", 0):
        told.append(f"pool: {count} texts of its sources are also in a dataset, and were left out")
    known = EvaluatedTexts.of(beside)
    if count := int(known.matches(pool.inputs, normalised(pool.inputs))[1].sum()):
        told.append(
            f"pool: {count} of its {len(pool)} texts are also in a dataset; a model that was trained on a text answers "
            "it better than others"
        )
    return told
