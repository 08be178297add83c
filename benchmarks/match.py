"""Which model fits a labelled file, and how often will it be right? Read-outs against what the models really answer.

    python benchmarks/match.py --tasks 66 --seeds 0 1

The zoo and the pool of benchmarks/retrieval.py. A target's labelled texts are those of its dataset embedding; the
truth is how often a model's own answers are right on texts kept aside, each of its classes read as the label that it
goes with most often in the labelled texts. Every model is asked about every target for that, which takes a quarter of
an hour a seed, once: answers are kept in --cache. Needs the shared data: the folder that FUTE_SHARED names, or
../shared beside the checkout.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from command import write_record
from match_scores import h_score, leep, logme
from numpy.typing import NDArray
from population import PartFeatures, Stopwatch, model_refs, scores, train_zoos
from real_tasks import Rows, Task, manifest, read_task, real_pool, split_rows, task_lists
from retrieval import compute
from scipy.stats import spearmanr
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits
from zoo import ARCHITECTURES, Inputs, fit_all, read_inputs

from fute.config import SurrogateConfig
from fute.fingerprint import fingerprint
from fute.match.accuracy import interval, matched
from fute.match.kernel import TextKernel
from fute.match.readout import read_out
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.surrogate.load import load_surrogate
from fute.types import Features, Outputs, Pool
from fute.unify.frame import Frame, embed_pseudo_tasks
from storage.stamp import code_version
from storage.store import Store
from tasks.match import LEAST_AGREEMENT

HERE = Path(__file__).parent
Doubles = NDArray[np.float64]
ANSWERS_VERSION = 1
RELATED = 0.05
"""Accuracy above the most frequent label from which a read-out says that a model does something for a target."""
FEW = 20
"""Labelled rows of the rival that asks for some and judges models by their own answers on them."""
SMALL = (50, 200)
"""Labelled rows of smaller files, whose intervals are looked at too."""
READ_OUT = "read-out, as shipped"
FEW_READ = f"read-out, {FEW} labelled rows"


@dataclass(frozen=True, eq=False)
class Seed:
    """What one seed's models do on each target, and what is said of it; all (targets, models).

    Attributes:
        truth: accuracy of the models' own answers on texts kept aside.
        ranked: by name of a method, what it ranks by.
        low, high: of the interval of the read-out.
        majority: (targets,) share of the most frequent label in the labelled texts.
        held_small: by labelled rows of smaller files, whether their intervals hold the truth.
        known: (models,) whose read-out follows them well enough to say anything.
    """

    truth: Doubles
    ranked: dict[str, Doubles]
    low: Doubles
    high: Doubles
    majority: Doubles
    known: NDArray[np.bool_]
    held_small: dict[int, NDArray[np.bool_]]


def main() -> None:
    options = _options()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    learnable, tried = task_lists(shared)
    everything = [
        read_task(shared, manifest(shared)[t]) for t in [*learnable, *(t for t in tried if t not in learnable)]
    ]
    tasks = everything[: int(options.tasks)]
    surrogate = load_surrogate(SurrogateConfig(device=options.device), HERE)
    store = Store(options.cache)
    features = store.cached_features(surrogate.id, partial(compute, surrogate))
    runs = []
    with threadpool_limits(options.threads):
        for seed in options.seeds:
            pool = real_pool(shared, "loose", seed, everything)
            train_zoos(tasks, {seed: pool}, features, store, surrogate.width, Stopwatch())
            answers = all_answers(tasks, seed, features, surrogate.width, options.cache / "match")
            runs.append(measure(tasks, pool, seed, features, store, answers))
    lists = {str(len(tasks)): list(range(len(tasks)))}
    if len(tasks) > len(learnable):
        lists = {
            str(len(learnable)): list(range(len(learnable))),
            "others": list(range(len(learnable), len(tasks))),
            **lists,
        }
    results = {name: [summarise(run, members) for run in runs] for name, members in lists.items()}
    for name, found in results.items():
        report(name, found)
    record = {"tasks": [t.id for t in tasks], "seeds": options.seeds, "git_commit": code_version(), "results": results}
    write_record(record, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", choices=["29", "66"], default="29")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--device", default="auto", help="for the surrogate: auto, cpu, cuda, mps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results/match.json")
    return parser.parse_args()


def all_answers(
    tasks: Sequence[Task], seed: int, features: Features, width: int, cache: Path
) -> Callable[[int, int, int], NDArray[np.int64]]:
    """(model's task, architecture, target) -> its classes on the target's labelled texts and those kept aside."""
    rows = [split_rows(task, seed) for task in tasks]
    files = [
        cache / f"{fingerprint(answers=ANSWERS_VERSION, dataset=t.dataset.fingerprint, seed=seed)}.npz" for t in tasks
    ]
    if missing := [i for i, file in enumerate(files) if not file.is_file()]:
        cache.mkdir(parents=True, exist_ok=True)
        read: list[Inputs] = [read_inputs(t.inputs, normalize(features(t.inputs)[:, -width:])) for t in tasks]
        for i in missing:
            models = fit_all(read[i].take(rows[i].model), tasks[i].labels[rows[i].model])
            found = {
                f"{a}|{u.id}": m.estimator.classes_[m.probabilities(read[j].take(asked(rows[j]))).argmax(axis=1)]
                for a, m in enumerate(models)
                for j, u in enumerate(tasks)
            }
            np.savez(files[i], **found)
            print(f"  {tasks[i].id}, seed {seed}: its models were asked about all targets", flush=True)
    opened = [np.load(file) for file in files]
    return lambda i, a, j: opened[i][f"{a}|{tasks[j].id}"].astype(np.int64)


def asked(rows: Rows) -> NDArray[np.intp]:
    return np.concatenate([rows.dataset, rows.held_out])


def measure(
    tasks: Sequence[Task],
    pool: Pool,
    seed: int,
    features: Features,
    store: Store,
    answers: Callable[[int, int, int], NDArray[np.int64]],
) -> Seed:
    """Everything of one seed."""
    outputs = [store.outputs(pool.id, ref) for task in tasks for ref in model_refs(task, seed, "main")]
    shape = len(tasks), len(outputs)
    names = [READ_OUT, FEW_READ, "score, as `nearest` ranks", "agreement of read-outs", "LEEP of read-outs",
             "LogME of read-outs", "H-score of read-outs", "held-out score", f"own answers on {FEW} labelled rows",
             "random"]  # fmt: skip
    ranked = {name: np.zeros(shape) for name in names}
    low, high, truth, majority = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(len(tasks))
    held_small = {n: np.zeros(shape, bool) for n in SMALL}
    kernel = TextKernel(pool.inputs, features(pool.inputs))
    models = read_out(kernel.pool, outputs)
    print(f"seed {seed}: read-outs done", flush=True)
    ranked["score, as `nearest` ranks"] = closeness(tasks, pool, seed, features, outputs)
    for j, target in enumerate(tasks):
        rows = split_rows(target, seed)
        labels, kept = target.labels[rows.dataset], target.labels[rows.held_out]
        n_labels = int(target.labels.max()) + 1
        frequent = int(np.bincount(labels, minlength=n_labels).argmax())
        majority[j] = float((labels == frequent).mean())
        texts = kernel.texts(target.inputs.take(rows.dataset), features(target.inputs)[rows.dataset])
        draw = np.random.default_rng([seed, j])
        order = draw.permutation(len(labels))
        few = order[:FEW]
        said = [model.answers(texts) for model in models]
        for m, model in enumerate(models):
            own = answers(m // len(ARCHITECTURES), m % len(ARCHITECTURES), j)
            classes = max(model.weights.shape[1], int(own.max()) + 1)
            meaning, _ = matched(own[: len(labels)], labels, classes, n_labels)
            truth[j, m] = float((meaning[own[len(labels) :]] == kept).mean())
            found = said[m].argmax(axis=1)
            _, expected = matched(found, labels, classes, n_labels)
            told = interval(expected, majority[j], len(labels), model.agreement)
            # Equal ones are told apart by their score, as `fute match` does it.
            ranked[READ_OUT][j, m] = told.expected + 1e-6 * ranked["score, as `nearest` ranks"][j, m]
            low[j, m], high[j, m] = told.low, told.high
            for n in SMALL:
                of = order[:n]
                _, expected = matched(found[of], labels[of], classes, n_labels)
                often = float(np.bincount(labels[of]).max() / len(of))
                small = interval(expected, often, len(of), model.agreement)
                held_small[n][j, m] = small.low <= truth[j, m] <= small.high
            raised = np.exp(said[m] - said[m].max(axis=1, keepdims=True))
            soft = raised / raised.sum(axis=1, keepdims=True)
            ranked["LEEP of read-outs"][j, m] = leep(soft, labels)
            ranked["LogME of read-outs"][j, m] = logme(said[m], labels)
            ranked["H-score of read-outs"][j, m] = h_score(said[m], labels)
            ranked["held-out score"][j, m] = outputs[m].details["accuracy"] - outputs[m].details["majority"]
            _, ranked[FEW_READ][j, m] = matched(found[few], labels[few], classes, n_labels)
            _, some = matched(own[few], labels[few], classes, n_labels)
            ranked[f"own answers on {FEW} labelled rows"][j, m] = some
        ranked["agreement of read-outs"][j] = agreement([s.argmax(axis=1) for s in said])
        ranked["random"][j] = draw.random(len(models))
    known = np.array([model.agreement >= LEAST_AGREEMENT for model in models])
    return Seed(truth, ranked, low, high, majority, known, held_small)


def closeness(tasks: Sequence[Task], pool: Pool, seed: int, features: Features, outputs: Sequence[Outputs]) -> Doubles:
    """(targets, models) scores of crosscov in its frame."""
    parts = PartFeatures(features, pool)
    read = partial(parts.read, slice(None))
    embedder = Crosscov(CrosscovConfig(), read, pool)
    made = embed_pseudo_tasks(embedder, read, pool, seed)
    assert made is not None
    frame = Frame.of(**made)
    datasets = [embedder.dataset(parts.part(t, split_rows(t, seed))).vector for t in tasks]
    models = [embedder.model(answers).vector for answers in outputs]
    return scores(frame, frame.place(datasets), "dataset", frame.place(models), "model")


def agreement(answers: Sequence[NDArray[np.intp]]) -> Doubles:
    """(models,) mutual information of each model's answers with those of the others, on average."""
    hot = [np.eye(int(a.max()) + 1)[a] for a in answers]
    n = len(answers[0])
    found = np.zeros((len(hot), len(hot)))
    for i in range(len(hot)):
        for k in range(i):
            joint = hot[i].T @ hot[k] / n
            apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
            there = joint > 0
            found[i, k] = found[k, i] = float((joint[there] * np.log(joint[there] / apart[there])).sum())
    return found.mean(axis=1)


def summarise(run: Seed, members: Sequence[int]) -> dict[str, Any]:
    """Measures on some of the tasks, and their models."""
    each = len(ARCHITECTURES)
    models = np.concatenate([np.arange(each) + each * i for i in members])
    ranked: dict[str, Any] = {}
    for name, by in run.ranked.items():
        ranked[name] = {
            which: ranking_measures([(by[j, of], run.truth[j, of]) for j, of in _asked(members, models, which)])
            for which in ("with", "without")
        }
    own = np.zeros(run.truth.shape, bool)
    for i in members:
        own[i, each * i : each * (i + 1)] = True
    here = np.ix_(members, models)
    truth, expected, own = run.truth[here], run.ranked[READ_OUT][here], own[here]
    inside = (truth >= run.low[here]) & (truth <= run.high[here])
    related = expected > run.majority[members][:, None] + RELATED
    known = np.broadcast_to(run.known[models][None], own.shape)
    groups = {"all pairs": known, "related": known & related, "own": known & own} | {
        f"own, {a}": known & own & (np.arange(own.shape[1]) % each == k)[None] for k, a in enumerate(ARCHITECTURES)
    }
    return {
        "ranked": ranked,
        "unknown": float(1 - run.known[models].mean()),
        "accuracy": {
            name: {
                "pairs": int(which.sum()),
                "error": float(np.abs(truth - expected)[which].mean()),
                "bias": float((expected - truth)[which].mean()),
                "coverage": float(inside[which].mean()),
                **{f"coverage_{n}": float(held[here][which].mean()) for n, held in run.held_small.items()},
                "width": float((run.high[here] - run.low[here])[which].mean()),
            }
            for name, which in groups.items()
        },
    }


def _asked(members: Sequence[int], models: NDArray[np.intp], which: str) -> list[tuple[int, NDArray[np.intp]]]:
    """Each target with the models that it is ranked with: all, or those of other tasks."""
    each = len(ARCHITECTURES)
    return [(j, models if which == "with" else models[models // each != j]) for j in members]


def ranking_measures(pairs: Sequence[tuple[Doubles, Doubles]]) -> dict[str, float]:
    regrets = np.array([truth.max() - truth[by.argmax()] for by, truth in pairs])
    rho = [spearmanr(by, truth).statistic for by, truth in pairs if np.ptp(by) > 0 < np.ptp(truth)]
    return {"rank_correlation": float(np.mean(rho)), "regret": float(regrets.mean()),
            "regret_above_0.05": float((regrets > 0.05).mean())}  # fmt: skip


def report(name: str, runs: Sequence[dict[str, Any]]) -> None:
    print(f"\n{name} tasks, mean of {len(runs)} seeds: with models of the task | without")
    for method in runs[0]["ranked"]:
        parts = []
        for which in ("with", "without"):
            values = [run["ranked"][method][which] for run in runs]
            parts.append("  ".join(f"{np.mean([v[k] for v in values]):.3f}" for k in values[0]))
        print(f"  {method:<36}{parts[0]} | {parts[1]}")
    print(f"  read-outs that say nothing: {np.mean([run['unknown'] for run in runs]):.3f} of the models")
    for group in runs[0]["accuracy"]:
        values = [run["accuracy"][group] for run in runs]
        print(f"  {group:<20}" + "  ".join(f"{k} {np.mean([v[k] for v in values]):.3f}" for k in values[0]))


if __name__ == "__main__":
    main()
