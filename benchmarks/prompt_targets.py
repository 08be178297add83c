"""Targets, references and pools of the prompt benchmark: whose texts they are, and that none is shared.

A target is a sample of rows that the answerer never saw in training. References are labelled datasets of the same
family, other than all targets; rows whose text also stands in a target are left out of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from real_tasks import EVERYTHING, SPLITS, manifest, read_task

from fute.config import PoolConfig
from fute.data.duplicates import normalised
from fute.data.pool import EvaluatedTexts, build_pool
from fute.data.sampling import generator, stratified_sample
from fute.types import Dataset, Split, TextTable

MAX_WORDS = 100
"""Of a text: what the answerer reads beside the prompt's own words (128 tokens) without losing the question."""

POLES = {"very negative": "negative", "very positive": "positive"}
"""Labels of star ratings that mean the same as a target's; rows of other labels (neutral) are left out."""

TARGETS: dict[str, dict[str, tuple[int, tuple[str, ...]]]] = {
    "sentiment": {"sst2": (500, ("test",)), "rotten_tomatoes": (400, ("test",)), "imdb": (250, ("test",))},
    "nli": {
        "cb": (600, SPLITS),
        "rte": (400, ("validation", "test")),
        "anli_r1": (400, SPLITS),
    },
}
"""Family -> target -> rows at most, and the splits that they are drawn from (all of a small or dev-only set)."""

UNSEEN: dict[str, dict[str, tuple[int, tuple[str, ...]]]] = {
    "sentiment": {"cr": (300, ("test",)), "mpqa": (300, ("test",))},
    "nli": {"snli": (300, ("test",)), "mnli": (300, ("test",))},
}
"""Targets that no method was compared on while it was made. The answerer saw their training splits, in other wordings;
they are references of the other targets, and never of themselves."""

REFERENCES = {"sentiment": ("cr", "mpqa", "yelp_review_full", "amazon_review_full"), "nli": ("snli", "mnli")}
REFERENCE_ROWS = 800
POOL_ROWS = {"sentiment": 300, "nli": 200}


@dataclass(frozen=True, eq=False)
class Target:
    """Labels are for measuring alone: no method is given them."""

    id: str
    family: str
    inputs: TextTable
    labels: NDArray[np.int64]
    label_names: tuple[str, ...]


def read_target(shared: Path, family: str, name: str) -> Target:
    rows, splits = (TARGETS[family] | UNSEEN[family])[name]
    names = ("train", *[s for s in splits if s != "train"])
    dataset = read_task(shared, manifest(shared)[name], max_rows=EVERYTHING, splits=names).dataset
    parts = [dataset.splits[s] for s in splits]
    texts = [t for p in parts for t in p.inputs.texts]
    pairs = [t for p in parts for t in (p.inputs.pairs or [None] * len(p))]
    labels = np.concatenate([p.targets for p in parts])
    drawn = stratified_sample(labels, rows, generator(0, "prompt target", name))
    inputs = cut(TextTable(texts, None if parts[0].inputs.pairs is None else pairs).take(drawn))
    return Target(name, family, inputs, labels[drawn], tuple(dataset.label_names or ()))


def cut(inputs: TextTable) -> TextTable:
    """Texts of MAX_WORDS words at most."""
    return TextTable([_cut(t) for t in inputs.texts], inputs.pairs)


def _cut(text: str) -> str:
    words = text.split()
    return text if len(words) <= MAX_WORDS else " ".join(words[:MAX_WORDS])


def read_references(shared: Path, family: str, targets: Sequence[Target]) -> list[Dataset]:
    """Labelled rows of related datasets, their labels under the targets' names."""
    known = EvaluatedTexts.of(
        Dataset(t.id, "classification", {"train": Split(t.inputs, t.labels)}, "") for t in targets
    )
    found = []
    for name in REFERENCES[family]:
        if name in {target.id for target in targets}:
            continue
        dataset = read_task(shared, manifest(shared)[name], max_rows=4 * REFERENCE_ROWS).dataset
        names = [POLES.get(n, n) for n in dataset.label_names or ()]
        kept = sorted({n for n in names if n in targets[0].label_names or family == "nli"})
        inputs = cut(dataset.train.inputs)
        _, of_target = known.matches(inputs, normalised(inputs))
        classes = np.array([kept.index(n) if n in kept else -1 for n in names])[dataset.train.targets]
        usable = np.flatnonzero((classes >= 0) & ~of_target)
        drawn = usable[stratified_sample(classes[usable], REFERENCE_ROWS, generator(0, "prompt reference", name))]
        split = Split(inputs.take(drawn), classes[drawn])
        found.append(Dataset(name, "classification", {"train": split}, dataset.fingerprint, tuple(kept)))
    return found


def generic_pool(shared: Path, family: str, targets: Sequence[Target]) -> TextTable:
    """Texts of all unlabelled sources but the targets' own; pairs only, where prompts are for pairs."""
    config = PoolConfig.model_validate(
        {
            "sources": [{"data": {"files": "unlabeled/*.parquet"}, "text_pair": "text_pair"}],
            "rows_per_source": 15,
            "max_rows": 3060,
        }
    )
    evaluated = [Dataset(t.id, "classification", {"train": Split(t.inputs, t.labels)}, "") for t in targets]
    inputs = cut(build_pool(config, shared / "data", 0, evaluated).inputs)
    pairs = inputs.pairs or [None] * len(inputs)
    rows = np.array([r for r, p in enumerate(pairs) if (p is not None) == (family == "nli")])
    drawn = np.sort(generator(0, "prompt pool", family).permutation(rows)[: POOL_ROWS[family]])
    taken = inputs.take(drawn)
    return taken if family == "nli" else TextTable(taken.texts)


def verbalizer_for(words: Mapping[str, Sequence[str]], label_names: Sequence[str]) -> dict[str, list[str]]:
    """A prompt's answer words under the target's labels, in the target's order.

    not_entailment, where a target has it, takes the words of neutral and contradiction.
    """
    merged = {"not_entailment": [*words.get("neutral", ()), *words.get("contradiction", ())]}
    return {name: list(words[name] if name in words else merged[name]) for name in label_names}
