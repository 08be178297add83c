"""Which stored model fits a target, and how often it will be right: `fute match`. No model is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from fute.config import DatasetConfig, Method, SurrogateConfig
from fute.data.files import columns_of, file_format
from fute.data.ingest import ingest
from fute.did_you_mean import did_you_mean, listed
from fute.errors import DataError, MethodError, NotInStoreError
from fute.match.accuracy import Accuracy, interval, matched
from fute.match.kernel import TextKernel
from fute.match.readout import ReadOut, read_out
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.methods.crosscov.whitening import Doubles
from fute.types import Dataset, Features, Floats, Kind, Outputs, Pool, TextTable
from fute.unify.frame import FRAME_VERSION, Frame, embed_pseudo_tasks, verdict
from storage.accuracies import ref_of
from storage.nearest import placed_vectors
from storage.store import Store
from storage.vectors import StoredEmbedding, VectorStore
from tasks import resources

PAIR = "text_pair"
"""Column of second texts that is taken where none is named."""
LEAST_AGREEMENT = 0.2
"""Of a read-out with its model on the pool, below which it says nothing of other texts."""
FEWEST_TEXTS = 20
"""Labelled texts, below which an interval would say nothing."""

FEWEST_A_LABEL = 5
"""The same, for each label on average: of fewer, which class goes with it is chance."""


@dataclass(frozen=True)
class Matched:
    """One model and a target.

    Attributes:
        accuracy: None where nothing can be vouched for; `unknown` then says why.
        meaning: which label each of its classes was read as, the classes by name.
        as_named: share of texts that would be right with its classes read by their own names; None where they are not
            the target's.
        turned: whether its classes go with the target's labels in another order than their names say.
        agreement: of the read-out with the model on the pool (`ReadOut.agreement`).
        score, p_value, verdict: how near it is to the target, as `fute nearest` says it.
    """

    model: str
    kind: str
    accuracy: Accuracy | None
    unknown: str | None
    meaning: dict[str, str]
    as_named: float | None
    turned: bool
    agreement: float | None
    score: float | None
    p_value: float | None
    verdict: str | None


@dataclass(frozen=True)
class Match:
    """Attributes:
    texts: labelled ones that were looked at.
    left_out: rows of the file that are empty, without a label or there twice.
    split: of a dataset of the store: which part of it was looked at; empty for a file.
    most_frequent, majority: a label, and the share of texts that always answering it gets right.
    models: the best first, those of unknown accuracy last.
    """

    target: str
    texts: int
    left_out: int
    split: str
    labels: tuple[str, ...]
    most_frequent: str
    majority: float
    space: str
    pool: str
    pool_texts: int
    models: tuple[Matched, ...]

    def better(self) -> list[Matched]:
        """Models that are better than always answering the most frequent label, not by chance of being so many."""
        known = [m for m in self.models if m.accuracy is not None]
        return [m for m in known if m.accuracy and m.accuracy.surely_above(self.majority, len(known))]


@dataclass(frozen=True, eq=False)
class Labelled:
    """The texts of a target that models are judged on.

    Attributes:
        targets: (n,) rows of `names`.
        split: which part of a dataset they are.
    """

    inputs: TextTable
    targets: NDArray[np.int64]
    names: tuple[str, ...]
    split: str

    @property
    def most_frequent(self) -> str:
        return self.names[int(np.bincount(self.targets, minlength=len(self.names)).argmax())]

    @property
    def majority(self) -> float:
        """Share of texts that always answering it gets right."""
        return float(np.bincount(self.targets).max() / len(self.targets))


def labelled(dataset: Dataset) -> Labelled:
    """Raises DataError: its labels are no classes, or too few."""
    if dataset.task != "classification" or dataset.label_names is None:
        raise DataError(f"{dataset.id} holds {dataset.task} targets; a match needs labels that are classes")
    names, part = dataset.label_names, _kept_aside(dataset)
    split = dataset.splits[part]
    fewest = max(FEWEST_TEXTS, FEWEST_A_LABEL * len(names))
    if len(split) < fewest:
        raise DataError(
            f"{dataset.id} has {len(split)} labelled texts with {len(names)} labels; give at least {fewest}"
        )
    return Labelled(split.inputs, split.targets, names, part)


class ReadOuts:
    """What models answered on a pool, read out: made once for any number of targets.

    Inverts the kernel of a pool of n texts: memory grows as n^2 and time as n^3 (4,000 texts, 20 models: 1.2 GiB and
    80 s on two busy cores).
    """

    def __init__(
        self, pool: Pool, features: Features, models: Sequence[StoredEmbedding], outputs: Sequence[Outputs]
    ) -> None:
        self._features = features
        self._outputs = {m.subject: o for m, o in zip(models, outputs, strict=True)}
        classed = {name: o for name, o in self._outputs.items() if _is_classed(o)}
        self._kernel = TextKernel(pool.inputs, features(pool.inputs)) if classed else None
        self._read: dict[str, ReadOut] = {}
        if self._kernel is not None:
            self._read = dict(zip(classed, read_out(self._kernel.pool, list(classed.values())), strict=True))

    def judged(self, target: Labelled, models: Sequence[StoredEmbedding]) -> list[Matched]:
        """How often each of some of the models will be right on a target."""
        texts = np.empty((len(target.targets), 0))
        if self._kernel is not None:
            texts = self._kernel.texts(target.inputs, self._features(target.inputs))
        return [
            _matched(
                m,
                self._outputs[m.subject],
                self._read.get(m.subject),
                texts,
                target.targets,
                target.names,
                target.majority,
            )
            for m in models
        ]


def _is_classed(outputs: Outputs) -> bool:
    return outputs.kind in ("probabilities", "labels") and outputs.values.shape[1] > 1


def match(
    store: Store,
    target: str,
    *,
    text: str = "text",
    text_pair: str | None = None,
    label: str = "label",
    space: str | None = None,
    rows: int = 1000,
) -> Match:
    """Every model of a space on a labelled target, a dataset of the store or a file.

    Args:
        text, text_pair, label: columns of a file.
        space: by default the one with the most models.
        rows: labelled texts at most, a stratified sample.

    Raises:
        NotInStoreError: no such space, dataset or file; no models.
        DataError: the target has no labels, or too few texts.
    """
    found, population = _space(store, space)
    dataset, known = _target(store, target, {"text": text, "text_pair": text_pair, "label": label}, rows, population)
    labels = labelled(replace(dataset, id=target))
    features = _features(store, json.loads(found["settings"])["surrogate"], [] if known else [labels.inputs])
    pool = store.pool(found["pool"])
    models = [e for e in population if e.kind == "model"]
    outputs = [store.outputs(pool.id, ref_of(e)) for e in models]
    read = ReadOuts(pool, features, models, outputs)
    names, frequent, majority = labels.names, labels.most_frequent, labels.majority
    near = _nearness(store, found, models, features, dataset)
    judged = [replace(m, **near.get(m.model, {})) for m in read.judged(labels, models)]
    judged.sort(
        key=lambda m: (m.accuracy is None, -(m.accuracy.expected if m.accuracy else 0), -(m.score or 0), m.model)
    )
    return Match(
        target=target,
        texts=len(labels.targets),
        left_out=0 if known else _left_out(dataset),
        split=labels.split if known else "",
        labels=names,
        most_frequent=frequent,
        majority=majority,
        space=found["space"],
        pool=pool.id,
        pool_texts=len(pool),
        models=tuple(judged),
    )


def _space(store: Store, wanted: str | None) -> tuple[dict[str, Any], list[StoredEmbedding]]:
    """The space, and all that is in it."""
    vectors = VectorStore(store)
    spaces = vectors.spaces()
    if wanted is not None:
        spaces = [row for row in spaces if row["space"] == wanted]
    found = [(row, vectors.population(row["space"])) for row in spaces]
    if not any(e.kind == "model" for _, population in found for e in population):
        which = "" if wanted is None else f" in space {wanted}"
        raise NotInStoreError(f"no models{which} in {store.root}; run a study first (`fute run`)")
    # crosscov's first: it alone says at no cost how near a target is.
    return max(
        found,
        key=lambda f: (sum(e.kind == "model" for e in f[1]), f[0]["method"] == "crosscov", f[0]["created_at"]),
    )


def _target(
    store: Store, target: str, columns: Mapping[str, str | None], rows: int, population: Sequence[StoredEmbedding]
) -> tuple[Dataset, bool]:
    """The target, and whether the store holds it."""
    path = Path(target).expanduser()
    if not path.is_file():
        refs = {e.subject: ref_of(e) for e in population if e.kind == "dataset"}
        if target not in refs:
            raise NotInStoreError(f"{target!r} is no file, and no dataset of {store.root}{did_you_mean(target, refs)}")
        return store.dataset(refs[target]), True
    there = columns_of(path, file_format(path, "auto"), [str(columns["text"]), str(columns["label"])])
    if columns["text"] == columns["label"]:
        raise DataError(f"{columns['text']!r} is named as the column of texts and of labels; they are two")
    if columns["label"] not in there:
        raise DataError(
            f"{target} has no column {columns['label']!r}; without labels nothing says how often a model is right, so "
            f"name their column (--label) or write {FEWEST_TEXTS} of them. Columns there: {listed(there, 30)}"
        )
    if columns["text_pair"] is None and PAIR in there:
        columns = {**columns, "text_pair": PAIR}
    files = {"files": str(path.resolve())}
    settings = {"id": "target", "data": files, "max_rows": rows, "min_rows": 2, "skip_bad_rows": True, **columns}
    return ingest(DatasetConfig.model_validate(settings), Path.cwd(), seed=0), False


def _left_out(dataset: Dataset) -> int:
    return sum(dataset.report["splits"]["train"]["left_out"].values())


def _kept_aside(dataset: Dataset) -> str:
    """The part whose texts models are judged on: one that none can have been trained on, where there is such."""
    return next(name for name in ("test", "validation", "train") if name in dataset.splits)


def _features(store: Store, settings: Mapping[str, Any], unkept: Sequence[TextTable]) -> Features:
    """Features of any table by the space's surrogate, from the store's cache; those of some tables are not kept."""
    config = SurrogateConfig.model_validate(settings)
    kept, compute = resources.features(store, config, Path.cwd()), resources.computed_features(config, Path.cwd())
    passing = {table.fingerprint for table in unkept}
    made: dict[str, Floats] = {}

    def features(table: TextTable) -> Floats:
        if table.fingerprint not in passing:
            return kept(table)
        if table.fingerprint not in made:
            made[table.fingerprint] = compute(table)
        return made[table.fingerprint]

    return features


def _matched(
    model: StoredEmbedding,
    outputs: Outputs,
    read: ReadOut | None,
    texts: Doubles,
    labels: NDArray[np.int64],
    names: Sequence[str],
    majority: float,
) -> Matched:
    """A model's expected accuracy; how near it is to the target is not known here."""
    bare = Matched(model.subject, model.row["subject_kind"], None, None, {}, None, False, None, None, None, None)
    if read is None:
        return replace(bare, unknown=f"it answers with {outputs.kind}, not with classes")
    if read.agreement < LEAST_AGREEMENT:
        return replace(
            bare,
            agreement=read.agreement,
            unknown="its answers on the pool do not say what it answers on other texts",
        )
    classes = outputs.label_names or tuple(map(str, range(outputs.values.shape[1])))
    answers = read.answers(texts).argmax(axis=1)
    meaning, expected = matched(answers, labels, len(classes), len(names))
    return replace(
        bare,
        accuracy=interval(expected, majority, len(labels), read.agreement),
        agreement=read.agreement,
        meaning={name: names[meaning[i]] for i, name in enumerate(classes)},
        as_named=_as_named(answers, labels, classes, names),
        turned=_turned({name: names[meaning[i]] for i, name in enumerate(classes)}),
    )


def _turned(meaning: Mapping[str, str]) -> bool:
    """Whether the classes are the labels, each once, in another order."""
    ours = {name.casefold(): label.casefold() for name, label in meaning.items()}
    return set(ours) == set(ours.values()) and len(ours) == len(meaning) and any(a != b for a, b in ours.items())


def _as_named(
    answers: NDArray[np.intp], labels: NDArray[np.int64], classes: Sequence[str], names: Sequence[str]
) -> float | None:
    ours = [name.casefold() for name in names]
    theirs = [name.casefold() for name in classes]
    if set(ours) != set(theirs) or len(set(ours)) != len(ours):
        return None
    return float((np.array([ours.index(name) for name in theirs])[answers] == labels).mean())


def _nearness(
    store: Store, space: Mapping[str, Any], models: Sequence[StoredEmbedding], features: Features, dataset: Dataset
) -> dict[str, dict[str, Any]]:
    """Model to score, p_value and verdict; empty where the space's method would have to be trained for it, or the
    labels have nothing to do with the texts."""
    method: Method = TypeAdapter(Method).validate_python(json.loads(space["settings"])["method"])
    if not isinstance(method, CrosscovConfig):
        return {}
    pool = store.pool(space["pool"])
    embedder = Crosscov(method, features, pool)
    made = store.cached_arrays(
        "pseudo",
        space["space"],
        str(FRAME_VERSION),
        lambda: embed_pseudo_tasks(embedder, features, pool, space["seed"]) or {},
    )
    if not made:
        return {}
    try:
        own = embedder.dataset(dataset)
    except MethodError:
        return {}
    frame = Frame.of(**made)
    placed = np.concatenate([frame.place([own.vector]), placed_vectors(models, frame)])
    kinds: list[Kind] = ["dataset", *(e.kind for e in models)]
    scores = frame.chance(placed).scores(placed[:1] @ placed.T, kinds)[0, 1:]
    found = {}
    for model, score in zip(models, scores.tolist(), strict=True):
        p = frame.p_value(score, ("dataset", "model"), len(models), (own.metrics, model.metrics))
        found[model.subject] = {"score": max(0.0, score), "p_value": p, "verdict": verdict(p)}
    return found
