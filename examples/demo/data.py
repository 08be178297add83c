"""The demo's data: small labelled tasks and unlabelled sources, made by the project's own grammar."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fute.data.sampling import generator

from .grammar import Rules, expand, sentence
from .sources import SOURCES
from .tasks import PAIR, TASKS, LabelledTask

N_TRAIN, N_TEST, N_SOURCE = 240, 80, 60
EITHER = 0.05
"""Share of rows whose text says little about the label."""

Text = tuple[str, str | None]


def demo_data(folder: Path) -> Path:
    """Write the demo's data where the example studies look for them, unless they are there."""
    if not (folder / "complete").is_file():
        click.echo(f"Writing generated tasks and texts to {folder}", err=True)
        write_demo_data(folder)
        (folder / "complete").touch()
    return folder


def write_demo_data(folder: Path, seed: int = 0) -> None:
    """Write tasks/<id>/{train,test}.parquet and sources/<id>.parquet below a folder.

    Tasks have the columns text, label and, where the inputs are pairs, text_pair; sources have text and text_pair
    (null where there is none). No text occurs twice in all of it. The same seed gives the same rows.
    """
    taken: set[Text] = set()
    for task in TASKS:
        rows = task_rows(task, N_TRAIN + N_TEST, seed, taken)
        for split, part in (("train", rows[:N_TRAIN]), ("test", rows[N_TRAIN:])):
            columns: dict[str, list[str | None]] = {"text": [text for (text, _), _ in part]}
            if task.is_pair:
                columns["text_pair"] = [pair for (_, pair), _ in part]
            columns["label"] = [label for _, label in part]
            _write(columns, folder / "tasks" / task.id / f"{split}.parquet")
    for source in SOURCES:
        rng = generator(seed, "demo", source.id)
        texts = [_new_text(source.rules, source.templates, rng, taken) for _ in range(N_SOURCE)]
        columns = {"text": [text for text, _ in texts], "text_pair": [pair for _, pair in texts]}
        _write(columns, folder / "sources" / f"{source.id}.parquet")


def task_rows(task: LabelledTask, n: int, seed: int, taken: set[Text] | None = None) -> list[tuple[Text, str]]:
    """n rows (text and pair, label) of a task, shuffled, its labels in equal shares before noise.

    Args:
        taken: texts that must not come again; those made are added.
    """
    rng = generator(seed, "demo", task.id)
    taken = set() if taken is None else taken
    labels = list(task.templates)
    rows: list[tuple[Text, str]] = []
    for i in range(n):
        label = labels[i % len(labels)]
        unclear = bool(task.either) and rng.random() < EITHER
        text = _new_text(task.rules, task.either if unclear else task.templates[label], rng, taken)
        if rng.random() < task.noise:
            label = labels[int(rng.integers(len(labels)))]
        rows.append((text, label))
    return [rows[i] for i in rng.permutation(n)]


def _new_text(rules: Rules, templates: tuple[str, ...], rng: np.random.Generator, taken: set[Text]) -> Text:
    """A text that was not made before.

    Raises:
        ValueError: the templates have hardly any texts left.
    """
    for _ in range(1000):
        template = templates[int(rng.integers(len(templates)))]
        text, _, pair = expand(rules, template, rng).partition(PAIR)
        made = (sentence(text), sentence(pair) if pair else None)
        if made not in taken:
            taken.add(made)
            return made
    raise ValueError(f"no new text in 1000 tries from {templates}; give the rules more words")


def _write(columns: dict[str, list[str | None]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}), partial)
    partial.replace(path)
