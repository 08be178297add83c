"""The methods of the referee's table: what each says of a zoo, from the same stored answers and features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache as once
from functools import cached_property, partial
from pathlib import Path

import match
import numpy as np
from baselines import BagOfWords
from match_scores import h_score, leep, logme
from numpy.typing import NDArray
from population import PartFeatures, Vectors, model_refs, scores
from quality import METHODS, KeptVectors, _embedder, frame_of
from real_tasks import Task, labelled_rows, split_rows
from rivals.cka import debiased_cka
from rivals.data_kernel import distances, perspectives
from rivals.embedllm import factorise
from rivals.llm_dna import dna
from sklearn.preprocessing import normalize
from zoo import ARCHITECTURES

from fute.config import SurrogateConfig
from fute.match.accuracy import matched
from fute.types import Features, Floats, Outputs, Pool, TextTable
from storage.store import Store

Doubles = NDArray[np.float64]
POOL, LABELS, OWN, NOTHING = (
    "answers on the pool",
    "answers on the pool, labels of the target",
    "answers on each target's labelled texts",
    "nothing of the target",
)
FOLDS = 5
SHIPPED = "expected accuracy (fute match)"


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method says; None where it says nothing.

    Attributes:
        reads: what it must be given.
        dataset_model: (t, m).
        model_model: (m, m).
        apart: (m, m) of the zoo's models with those that share no training row with them.
        accuracy: (t, m) what the models of a target are ranked by; None: dataset_model.
    """

    reads: str
    dataset_model: Doubles | None = None
    model_model: Doubles | None = None
    apart: Doubles | None = None
    accuracy: Doubles | None = None


@dataclass(frozen=True, eq=False)
class Zoo:
    """t tasks with three models each, and as many models that were trained on the rows of the datasets."""

    name: str
    tasks: Sequence[Task]
    pool: Pool
    features: Features
    store: Store
    width: int
    cache: Path

    @cached_property
    def outputs(self) -> list[Outputs]:
        return [self.store.outputs(self.pool.id, r) for t in self.tasks for r in model_refs(t, 0, "main")]

    @cached_property
    def strangers(self) -> list[Outputs]:
        return [self.store.outputs(self.pool.id, r) for t in self.tasks for r in model_refs(t, 0, "on other rows")]

    @cached_property
    def of_task(self) -> NDArray[np.intp]:
        return np.repeat(np.arange(len(self.tasks)), len(ARCHITECTURES))

    @cached_property
    def matched(self) -> match.Seed:
        """True accuracies, and everything of `fute match`."""
        return match.measure(self.tasks, self.pool, 0, self.features, self.store, self.answers)

    @cached_property
    def answers(self) -> Callable[[int, int, int], NDArray[np.int64]]:
        return match.all_answers(self.tasks, 0, self.features, self.width, self.cache / "match")

    def own_answers(self, model: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A model's classes on the target's labelled texts, and their labels."""
        rows = split_rows(self.tasks[target], 0).dataset
        each = len(ARCHITECTURES)
        return self.answers(model // each, model % each, target)[: len(rows)], self.tasks[target].labels[rows]

    def encoded(self, texts: Sequence[str]) -> Doubles:
        """(n, width) at unit length, the surrogate's last layer."""
        return normalize(self.features(TextTable(list(texts)))[:, -self.width :]).astype(np.float64)


Method = Callable[[Zoo], Answer]


# ---------------------------------------------------------------------------------------------------- fute's methods


def embedded(name: str, *, in_frame: bool) -> Method:
    """crosscov, tupate or taskemb: scores in the space's frame, or plain cosines."""

    def answer(zoo: Zoo) -> Answer:
        config = SurrogateConfig(dtype="float32" if name == "crosscov" else "auto")
        parts = PartFeatures(zoo.features, zoo.pool)
        read = partial(parts.read, slice(None))
        kept = KeptVectors(zoo.cache / "quality", METHODS[name], config, zoo.pool, 0)
        embedder = once(partial(_embedder, METHODS[name], config, read, zoo.pool, 0))

        def dataset(task: Task) -> Floats:
            part = (
                parts.part(task, split_rows(task, 0))
                if name == "crosscov"
                else labelled_rows(task, split_rows(task, 0).dataset)
            )
            return kept.get(f"{task.id}, split 0", lambda: embedder().dataset(part).vector)

        def models(which: str) -> Floats:
            refs = [r for t in zoo.tasks for r in model_refs(t, 0, which)]
            return np.stack(
                [kept.get(r, lambda r=r: embedder().model(zoo.store.outputs(zoo.pool.id, r)).vector) for r in refs]
            )

        datasets, main, others = np.stack([dataset(t) for t in zoo.tasks]), models("main"), None
        if name != "taskemb":  # as many trainings again
            others = models("on other rows")
        if not in_frame:
            d, m = normalize(datasets), normalize(main)
            return Answer(LABELS, d @ m.T, m @ m.T, None if others is None else m @ normalize(others).T)
        frame = frame_of(kept, embedder, read, zoo.pool, 0)
        placed = Vectors(datasets, main).placed(frame)
        return Answer(
            LABELS,
            scores(frame, placed.datasets, "dataset", placed.models, "model"),
            scores(frame, placed.models, "model", placed.models, "model"),
            None if others is None else scores(frame, placed.models, "model", frame.place(others), "model"),
        )

    return answer


def from_match(name: str) -> Method:
    """A ranking that benchmarks/match.py has: of models for a target."""

    def answer(zoo: Zoo) -> Answer:
        ranked = zoo.matched.ranked[name]
        reads = OWN if name.startswith("own") else NOTHING if name == "held-out score" else LABELS
        return Answer(reads, _on_one_scale(ranked), accuracy=ranked)

    return answer


# ---------------------------------------------------------------------------------------------------- rivals


def llm_dna(zoo: Zoo, *, named: bool) -> Answer:
    said, texts = _answer_texts(zoo, [*zoo.outputs, *zoo.strangers], named=named)
    found = normalize(dna([p.argmax(axis=1) for p in said], texts, seed=0))
    return _between_models(found @ found.T)


def data_kernel(zoo: Zoo, *, named: bool) -> Answer:
    said, texts = _answer_texts(zoo, [*zoo.outputs, *zoo.strangers], named=named)
    found = perspectives(distances(said, texts))
    return _between_models(-np.linalg.norm(found[:, None] - found, axis=2))


def outputs_alone(zoo: Zoo) -> Answer:
    said = [o.values.astype(np.float64) for o in [*zoo.outputs, *zoo.strangers]]
    own = said[: len(zoo.outputs)]
    return _between_models(debiased_cka(own, said))


def embedllm(zoo: Zoo) -> Answer:
    """Correctness on the labelled rows of all targets; of the targets of a fold from those of the others."""
    rows = [split_rows(t, 0).dataset for t in zoo.tasks]
    encoded = [
        normalize(zoo.features(t.inputs)[r][:, -zoo.width :]).astype(np.float64)
        for t, r in zip(zoo.tasks, rows, strict=True)
    ]
    right = [_correctness(zoo, j) for j in range(len(zoo.tasks))]
    fold = np.random.default_rng(0).permutation(len(zoo.tasks)) % FOLDS
    expected = np.zeros((len(zoo.tasks), len(zoo.outputs)))
    for k in range(FOLDS):
        known = np.flatnonzero(fold != k)
        factors = factorise(np.concatenate([right[j] for j in known], 1), np.concatenate([encoded[j] for j in known]))
        for j in np.flatnonzero(fold == k):
            expected[j] = factors.expected(encoded[j])
    factors = factorise(np.concatenate(right, 1), np.concatenate(encoded))
    models = normalize(factors.models)
    return Answer(OWN, _on_one_scale(expected), models @ models.T, accuracy=expected)


def _correctness(zoo: Zoo, target: int) -> Doubles:
    """(m, n) whether each model is right on a target's labelled texts, its classes read as in `fute match`."""
    n_labels = int(zoo.tasks[target].labels.max()) + 1
    right = []
    for model in range(len(zoo.outputs)):
        own, labels = zoo.own_answers(model, target)
        meaning, _ = matched(own, labels, int(own.max()) + 1, n_labels)
        right.append((meaning[own] == labels).astype(np.float64))
    return np.stack(right)


def transferability(score: Callable[[Doubles, NDArray[np.int64]], float]) -> Method:
    """LEEP, LogME or H-score of what the models themselves answer on the target's labelled texts."""

    def answer(zoo: Zoo) -> Answer:
        found = np.zeros((len(zoo.tasks), len(zoo.outputs)))
        for j in range(len(zoo.tasks)):
            for m in range(len(zoo.outputs)):
                own, labels = zoo.own_answers(m, j)
                found[j, m] = score(np.eye(int(own.max()) + 1)[own], labels)
        return Answer(OWN, _on_one_scale(found), accuracy=found)

    return answer


def best_on_average(zoo: Zoo) -> Answer:
    """The mean accuracy on all other targets, over that of the other models there."""
    truth = zoo.matched.truth
    above = truth - truth.mean(axis=1, keepdims=True)
    return Answer(OWN, accuracy=(above.sum(axis=0) - above) / max(len(truth) - 1, 1))


def bag_of_words(zoo: Zoo) -> Answer:
    words = BagOfWords(zoo.pool.inputs)
    datasets = np.stack([words.dataset(t.inputs.take(split_rows(t, 0).dataset)) for t in zoo.tasks])
    main, others = (np.stack([words.model(o) for o in group]) for group in (zoo.outputs, zoo.strangers))
    return Answer(LABELS, datasets @ main.T, main @ main.T, main @ others.T)


def by_chance(zoo: Zoo) -> Answer:
    rng = np.random.default_rng(0)
    t, m = len(zoo.tasks), len(zoo.outputs)
    return Answer(NOTHING, rng.random((t, m)), rng.random((m, m)), rng.random((m, m)))


def _answer_texts(zoo: Zoo, outputs: Sequence[Outputs], *, named: bool) -> tuple[list[Doubles], list[Doubles]]:
    """Probabilities, and the encoded names of the classes: the data's, or numbers in an order of each model's own."""
    task_of = [*zoo.of_task, *zoo.of_task][: len(outputs)]
    encoded = zoo.encoded([f"answer {k}" for k in range(max(o.values.shape[1] for o in outputs))])
    names = [zoo.encoded([n.replace("_", " ") for n in t.dataset.label_names or ()]) for t in zoo.tasks]
    said, texts = [], []
    for number, (output, task) in enumerate(zip(outputs, task_of, strict=True)):
        values = output.values.astype(np.float64)
        said.append(values)
        order = np.random.default_rng([0, number]).permutation(values.shape[1])
        texts.append(names[task][: values.shape[1]] if named else encoded[order])
    return said, texts


def _between_models(similar: Doubles) -> Answer:
    """From (m or 2 m, 2 m): the zoo's models with each other, and with those that share no row."""
    m = similar.shape[1] // 2
    return Answer(POOL, None, similar[:m, :m], similar[:m, m:])


def _on_one_scale(found: Doubles) -> Doubles:
    """Each target's values by the mean and deviation of its models': accuracies of two targets do not compare."""
    return np.asarray((found - found.mean(axis=1, keepdims=True)) / np.maximum(found.std(axis=1, keepdims=True), 1e-12))


CHEAP: dict[str, Method] = {
    "crosscov, scores": embedded("crosscov", in_frame=True),
    "crosscov, cosines": embedded("crosscov", in_frame=False),
    SHIPPED: from_match(match.READ_OUT),
    "LLM DNA, names of classes": partial(llm_dna, named=True),
    "LLM DNA, classes without names": partial(llm_dna, named=False),
    "data kernel, names of classes": partial(data_kernel, named=True),
    "data kernel, classes without names": partial(data_kernel, named=False),
    "debiased CKA of outputs": outputs_alone,
    "EmbedLLM-like factors": embedllm,
    "LEEP of read-outs": from_match("LEEP of read-outs"),
    "LogME of read-outs": from_match("LogME of read-outs"),
    "H-score of read-outs": from_match("H-score of read-outs"),
    "LEEP of own answers": transferability(leep),
    "LogME of own answers": transferability(logme),
    "H-score of own answers": transferability(h_score),
    f"own answers on {match.FEW} labelled rows": from_match(f"own answers on {match.FEW} labelled rows"),
    "held-out score": from_match("held-out score"),
    "best on average": best_on_average,
    "bag of words": bag_of_words,
    "random": by_chance,
}
TRAINED: dict[str, Method] = {
    f"{name}, {how}": embedded(name, in_frame=how == "scores")
    for name in ("tupate", "taskemb")
    for how in ("scores", "cosines")
}
EVERY = CHEAP | TRAINED
