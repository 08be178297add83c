"""The referee's table: one zoo, one protocol, fute's methods and other people's.

    OMP_NUM_THREADS=1 python benchmarks/referee.py --zoo 29          # what costs minutes
    OMP_NUM_THREADS=1 python benchmarks/referee.py --zoo 13 --methods tupate taskemb
    python benchmarks/referee.py --page                              # docs/referee.md from all results

Models, datasets, pool and rows are those of benchmarks/retrieval.py and benchmarks/match.py. Every method is asked
which models go with a dataset, which datasets with a model, and which models with a model, with and without common
training rows; and which model will be right most often on a new target. It answers with a matrix of similarities, or
not at all.

Results are rows of `referee_rows.SCHEMA` in Parquet files under results/referee; a file with other rows of that schema
takes part in the table as well.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache as once
from functools import cached_property, partial
from pathlib import Path

import match
import numpy as np
from baselines import BagOfWords
from claims_measures import interval
from match_scores import h_score, leep, logme
from numpy.typing import NDArray
from population import PartFeatures, Stopwatch, Vectors, model_refs, scores, train_zoos
from quality import METHODS, KeptVectors, _embedder, frame_of
from quality import TASKS as FEWER
from real_tasks import Task, labelled_rows, manifest, read_task, real_pool, split_rows, task_lists
from referee_page import with_tables
from referee_rows import read_rows, write_rows
from retrieval_measures import retrieval
from rivals.cka import debiased_cka
from rivals.data_kernel import distances, perspectives
from rivals.embedllm import factorise
from rivals.llm_dna import dna
from scipy.stats import spearmanr
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits
from zoo import ARCHITECTURES

from fute.config import SurrogateConfig
from fute.match.accuracy import matched
from fute.surrogate.features import compute_features
from fute.surrogate.load import load_surrogate
from fute.types import Features, Floats, Outputs, Pool, TextTable
from storage.store import Store

HERE = Path(__file__).parent
Doubles = NDArray[np.float64]
POOL, LABELS, OWN, NOTHING = (
    "answers on the pool",
    "answers on the pool, labels of the target",
    "answers on each target's labelled texts",
    "nothing of the target",
)
FOLDS = 5
SHIPPED = "expected accuracy (fute match)"
Truth = NDArray[np.bool_]
Asked = tuple[str, Doubles | None, Truth, Truth, Truth | None, NDArray[np.intp]]
"""Question, similarities, what is relevant, what is of its family, what a query may see, and the task of each query."""


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


def main() -> None:
    options = _options()
    if options.page:
        page = HERE.parent / "docs/referee.md"
        page.write_text(with_tables(page.read_text(encoding="utf-8"), read_rows()), encoding="utf-8")
        return
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    zoo = open_zoo(shared, options.zoo, options.cache)
    methods = options.methods or list(CHEAP)
    chosen = [name for name in EVERY if any(name == m or name.startswith(f"{m},") for m in methods)]
    with threadpool_limits(1):
        # All methods are judged by it, and the time that it takes is none of theirs.
        print(f"{zoo.name}, {zoo.matched.truth.shape[1]} models", flush=True)
        for name in chosen:
            started = time.perf_counter()
            answer = EVERY[name](zoo)
            seconds = (time.perf_counter() - started) / (len(zoo.outputs) + len(zoo.tasks))
            ready = name in zoo.matched.ranked or name == SHIPPED
            rows = list(measured(zoo, name, answer, None if ready else seconds))
            write_rows(rows, f"{zoo.name}, {name}")
            shown = [r for r in rows if r["measure"] in ("P@1", "rank correlation")]
            told = ", ".join(f"{r['question']} {r['value']:.3f}" for r in shown)
            print(f"{name}: {seconds:.3f} s a subject; {told}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", choices=["13", "29"], default="29")
    parser.add_argument("--methods", nargs="+", help="names, or what stands before their comma; default: the cheap")
    parser.add_argument("--page", action="store_true", help="write docs/referee.md from what was measured")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    return parser.parse_args()


def open_zoo(shared: Path, size: str, cache: Path) -> Zoo:
    learnable, tried = task_lists(shared)
    everything = [read_task(shared, manifest(shared)[t]) for t in dict.fromkeys([*learnable, *tried])]
    tasks = everything[:29] if size == "29" else [t for t in everything if t.id in FEWER]
    surrogate = load_surrogate(SurrogateConfig(), HERE)
    store = Store(cache)
    features = store.cached_features(surrogate.id, partial(compute_features, surrogate))
    pool = real_pool(shared, "loose", 0, everything)
    with threadpool_limits(1):
        train_zoos(tasks, {0: pool}, features, store, surrogate.width, Stopwatch())
    return Zoo(f"{size} tasks", tasks, pool, features, store, surrogate.width, cache)


def measured(zoo: Zoo, name: str, answer: Answer, seconds: float | None) -> Iterator[dict[str, object]]:
    """A row for each question and measure that the method has an answer to."""
    of_model = zoo.of_task
    families = np.unique([t.family for t in zoo.tasks], return_inverse=True)[1]
    same, related = of_model[:, None] == of_model, families[of_model][:, None] == families[of_model]
    architecture = np.arange(len(of_model)) % len(ARCHITECTURES)
    itself, other = np.eye(len(of_model), dtype=bool), architecture[:, None] != architecture
    tasks = np.arange(len(zoo.tasks))
    to_model, to_related = tasks[:, None] == of_model, families[:, None] == families[of_model]
    to_dataset = None if answer.dataset_model is None else answer.dataset_model.T
    apart = answer.apart
    asked: list[Asked] = [
        ("dataset to model", answer.dataset_model, to_model, to_related, None, tasks),
        ("model to dataset", to_dataset, to_model.T, to_related.T, None, of_model),
        ("model to model", answer.model_model, same, related, ~itself, of_model),
        ("model to other architecture", answer.model_model, same, related, other, of_model),
        ("model to model, no common row", apart, same, related, None, of_model),
        ("model to other architecture, no common row", apart, same, related, other, of_model),
    ]

    def row(question: str, measure: str, value: float, low: float, high: float, n: int) -> dict[str, object]:
        return {
            "zoo": zoo.name, "method": name, "reads": answer.reads, "question": question, "measure": measure,
            "value": value, "low": low, "high": high, "n": n, "seconds": seconds,
        }  # fmt: skip

    for question, similar, relevant, near, allowed, task in asked:
        if similar is None:
            continue
        for measure, truth in (("P@1", relevant), ("P@1 of the family", near), ("MAP", relevant)):
            each = [
                retrieval(similar[q : q + 1], truth[q : q + 1], None if allowed is None else allowed[q : q + 1])
                for q in range(len(similar))
            ]
            values = np.array([one.map if measure == "MAP" else one.p_at_1 for one in each])
            by_task = np.array([values[task == t].mean() for t in tasks])  # queries of one task stand or fall together
            yield row(question, measure, *interval(by_task), len(values))
    ranked = answer.dataset_model if answer.accuracy is None else answer.accuracy
    if ranked is None:
        return
    truth = zoo.matched.truth
    for question, without in (("accuracy", False), ("accuracy, without the task's own models", True)):
        rho, regret = np.full(len(tasks), np.nan), np.zeros(len(tasks))
        for t in tasks:
            of = of_model != t if without else np.ones(len(of_model), bool)
            by, true = ranked[t, of], truth[t, of]
            rho[t] = spearmanr(by, true).statistic if np.ptp(by) > 0 else 0.0
            regret[t] = true.max() - true[np.flatnonzero(by == by.max())].mean()
        yield row(question, "rank correlation", *interval(rho), len(tasks))
        yield row(question, "regret", *interval(regret), len(tasks))


if __name__ == "__main__":
    main()
