"""Do the intervals of `fute match` hold for fine-tuned transformers and for prompted models?

    OMP_NUM_THREADS=1 python benchmarks/match_kinds.py      # about an hour of one core; killed, it goes on where it was

The constants of the interval were chosen on small scikit-learn models (benchmarks/match.py). Here they are judged on
two other kinds: MiniLM with all weights fine-tuned on one of five tasks, and the network of prompt_selection.py under
ten prompts for sentiment and four for pairs. Each answers a pool, from which it is read out, and the texts of every
target itself; the truth is how often these answers are right on texts kept aside, each of its classes read as the label
that it goes with most often in the labelled ones. Answers are kept in --cache. Needs the shared data: the folder that
FUTE_SHARED names, or ../shared beside the checkout.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
from command import as_run, write_record
from numpy.typing import NDArray
from prompt_answers import Answerer, Wording, label_probabilities, read_wordings
from prompt_selection import SETS
from prompt_targets import TARGETS, UNSEEN, cut, read_target
from real_tasks import Task, manifest, read_task, real_pool, split_rows, task_lists
from retrieval import compute
from threadpoolctl import threadpool_limits

from fute.config import SurrogateConfig, TrainedModel
from fute.data.sampling import generator, stratified_sample
from fute.fingerprint import fingerprint
from fute.match.accuracy import judge, matched, unseen_in_pairs
from fute.match.kernel import TextKernel
from fute.match.readout import read_out
from fute.surrogate.load import load_surrogate
from fute.surrogate.source import Source, find_source
from fute.train.finetune import finetune, finetuned_classifier
from fute.train.split import take
from fute.types import Features, Floats, Outputs, TextTable
from storage.stamp import code_version
from storage.store import Store
from tasks.match import LEAST_AGREEMENT

HERE = Path(__file__).parent
TASKS = (
    "rotten_tomatoes", "cr", "hate_forum", "ag_news", "trec_coarse", "mpqa", "financial_phrasebank",
    "hate_speech_offensive",
)  # fmt: skip
FINETUNED = 5
"""The first of them, of which models are made."""
RECIPE = {"epochs": 2, "learning_rate": 1e-4, "batch_size": 16, "max_tokens": 48}
OTHERS = {"sentiment": ("sst5", "semeval2017_sentiment", "financial_phrasebank", "hate_forum", "subj"),
          "nli": ("qnli", "mrpc", "qqp")}  # fmt: skip
"""Targets that the prompts do not ask about, beside those of prompt_targets.py that they do."""
FILE_ROWS, KEPT_ROWS = 300, 400
"""Labelled texts of a target, and texts that the truth is counted on, at most; of few rows 3 parts and 4."""
PROMPT_POOL = 1000
PROMPTS = {"sentiment": 10, "nli": 4}
RELATED = 0.05  # as in match.py
VERSION = 1


@dataclass(frozen=True, eq=False)
class Model:
    """Attributes:
    answers: to any texts, (n, c) probabilities; those of rows that it cannot read are not asked for.
    home: the target that it was made for; None: several, or none.
    """

    id: str
    answers: Callable[[TextTable], Floats]
    home: str | None


@dataclass(frozen=True, eq=False)
class Target:
    """Attributes:
    group: targets of one group are counted together.
    """

    id: str
    group: str
    inputs: TextTable
    labels: NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--kinds", nargs="+", choices=["prompted", "finetuned"], default=["prompted", "finetuned"])
    parser.add_argument("--out", type=Path, default=HERE / "results/match_kinds.json")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    entries = manifest(shared)
    learnable, tried = task_lists(shared)
    everything = [read_task(shared, entries[t]) for t in dict.fromkeys([*learnable, *tried])]
    pool = real_pool(shared, "loose", 0, everything)  # that of match.py
    surrogate = load_surrogate(SurrogateConfig(device="cpu"), HERE)
    features = Store(options.cache).cached_features(surrogate.id, partial(compute, surrogate))
    results: dict[str, Any] = {}
    with threadpool_limits(1):
        torch.set_num_threads(1)
        if "prompted" in options.kinds:
            answerer = Answerer(shared / "answerer", options.cache)
            for family in TARGETS:
                models = prompted(answerer, family)
                pairs = np.array([pair is not None for pair in pool.inputs.pairs or [None] * len(pool)])
                rows = np.flatnonzero(pairs == (family == "nli"))
                rows = np.sort(generator(0, "prompt pool", family).permutation(rows)[:PROMPT_POOL])
                asked = cut(pool.inputs.take(rows))
                asked = asked if family == "nli" else TextTable(asked.texts)
                found = measure(f"prompted, {family}", models, prompt_targets(shared, family), asked, features)
                results[f"prompted, {family}"] = found
        if "finetuned" in options.kinds:
            chosen = [next(t for t in everything if t.id == name) for name in TASKS]
            source = find_source(SurrogateConfig().model, None, HERE)
            models = [finetuned(task, source, options.cache / "kinds") for task in chosen[:FINETUNED]]
            targets = [task_target(task, task.id in learnable) for task in chosen]
            results["fine-tuned"] = measure("fine-tuned", models, targets, pool.inputs, features)
    for name, groups in results.items():
        print(name)
        for group, values in groups.items():
            print(f"  {group:<34}" + "  ".join(f"{k} {v:.3f}" for k, v in values.items()))
    settings = {"tasks": TASKS, "recipe": RECIPE, "rows": [FILE_ROWS, KEPT_ROWS], "prompt_pool": PROMPT_POOL}
    write_record(
        {"command": as_run(__file__), "settings": settings, "git_commit": code_version(), "results": results},
        options.out,
    )


def prompted(answerer: Answerer, family: str) -> list[Model]:
    """The network under the shipped prompts that ask once."""

    def model(wording: Wording) -> Model:
        def answers(inputs: TextTable) -> Floats:
            return label_probabilities(answerer.table(wording, inputs), answerer.words, wording.verbalizer)

        return Model(wording.id, answers, None)

    wordings = read_wordings(Path(str(SETS["judging"]).format(family)))
    return [model(wording) for wording in wordings if wording.follow_up is None][: PROMPTS[family]]


def prompt_targets(shared: Path, family: str) -> list[Target]:
    found = []
    for name in (*TARGETS[family], *UNSEEN[family]):
        target = read_target(shared, family, name)
        found.append(Target(name, "asked about", target.inputs, target.labels))
    for name in OTHERS[family]:
        split = read_task(shared, manifest(shared)[name], splits=("train", "test")).dataset.splits["test"]
        rows = stratified_sample(split.targets, FILE_ROWS + KEPT_ROWS, generator(0, "target of prompts", name))
        found.append(Target(name, "others", cut(split.inputs.take(rows)), split.targets[rows]))
    return found


def finetuned(task: Task, source: Source, cache: Path) -> Model:
    """MiniLM fine-tuned on the rows that models of match.py are trained on; answers are kept, weights are not."""
    config = TrainedModel(kind="trained", dataset=task.id, recipe="finetune", **RECIPE)
    key = fingerprint(version=VERSION, dataset=task.dataset.fingerprint, backbone=source.revision, recipe=RECIPE)
    weights: list[TemporaryDirectory[str]] = []

    def answers(inputs: TextTable) -> Floats:
        file = cache / f"{task.id}@{key}" / f"{inputs.fingerprint}.npy"
        if not file.is_file():
            if not weights:
                weights.append(TemporaryDirectory())
                training = take(task.dataset.train, split_rows(task, 0).model)
                names = tuple(task.dataset.label_names or ())
                finetune(training, names, config, source, Path(weights[0].name), seed=0, device=torch.device("cpu"))
                print(f"  {task.id}: fine-tuned", flush=True)
            classifier = finetuned_classifier(Path(weights[0].name), task.id, config.max_tokens, "cpu")
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, classifier.outputs(inputs).values)
        return np.load(file)

    return Model(task.id, answers, task.id)


def task_target(task: Task, learnable: bool) -> Target:
    rows = split_rows(task, 0)
    taken = np.concatenate([rows.dataset[:FILE_ROWS], rows.held_out[:KEPT_ROWS]])
    return Target(task.id, "of the 29" if learnable else "of the 37", task.inputs.take(taken), task.labels[taken])


def measure(
    name: str, models: Sequence[Model], targets: Sequence[Target], pool: TextTable, features: Features
) -> dict[str, dict[str, float]]:
    """By group of targets and models: how far expected accuracies are off, and how often the intervals hold."""
    outputs = []
    for model in models:
        outputs.append(Outputs("probabilities", model.answers(pool)))
        for target in targets:
            model.answers(target.inputs)
        print(f"{name}: {model.id} was asked", flush=True)
    kernel = TextKernel(pool, features(pool))
    reads = read_out(kernel.pool, outputs)
    pairs: list[dict[str, Any]] = []
    for target in targets:
        n = min(FILE_ROWS, len(target.labels) * 3 // 7)
        # Stratified: else by chance a label is more frequent on one side, and all models miss or hold together.
        file = stratified_sample(target.labels, n, generator(0, "file of a target", target.id))
        kept = np.setdiff1d(np.arange(len(target.labels)), file)
        labels = target.labels[file]
        n_labels = int(target.labels.max()) + 1
        majority = float(np.bincount(labels).max() / len(file))
        texts = kernel.texts(target.inputs.take(file), features(target.inputs)[file])
        for model, read in zip(models, reads, strict=True):
            own = model.answers(target.inputs).argmax(axis=1)
            classes = read.weights.shape[1]
            meaning, _ = matched(own[file], labels, classes, n_labels)
            truth = float((meaning[own[kept]] == target.labels[kept]).mean())
            judged = judge(read.answers(texts).argmax(axis=1), labels, classes, n_labels, read.agreement)
            told, expected = judged.accuracy, judged.accuracy.expected
            seen = target.inputs.pairs is None or not unseen_in_pairs(judged)
            pairs.append({
                "group": target.group, "own": model.home == target.id,
                "known": read.agreement >= LEAST_AGREEMENT and seen,
                "related": expected > majority + RELATED, "agreement": read.agreement, "error": expected - truth,
                "held": told.low <= truth <= told.high, "too_low": truth > told.high, "width": told.high - told.low,
                "target": target.id, "model": model.id, "truth": truth, "expected": expected,
                "majority": majority, "texts": n, "kept": len(kept), "explained": read.explained,
            })  # fmt: skip
    return summarise(pairs)


def summarise(pairs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    kinds: dict[str, Callable[[dict[str, Any]], bool]] = {
        "all": lambda p: True,
        "related": lambda p: p["related"],
        "own": lambda p: p["own"],
        **{group: partial(_in_group, group) for group in dict.fromkeys(p["group"] for p in pairs)},
        **{f"related, {group}": partial(_related, group) for group in dict.fromkeys(p["group"] for p in pairs)},
    }
    found = {}
    for name, member in kinds.items():
        of = [p for p in pairs if member(p)]
        known = [p for p in of if p["known"]]
        if known:
            found[name] = {
                "pairs": len(of),
                "unknown": 1 - len(known) / len(of),
                "error": float(np.mean([abs(p["error"]) for p in known])),
                "bias": float(np.mean([p["error"] for p in known])),
                "coverage": float(np.mean([p["held"] for p in known])),
                "better_than_said": float(np.mean([p["too_low"] for p in known])),
                "width": float(np.mean([p["width"] for p in known])),
            }
    return found


def _in_group(group: str, pair: dict[str, Any]) -> bool:
    return bool(pair["group"] == group)


def _related(group: str, pair: dict[str, Any]) -> bool:
    return bool(pair["group"] == group and pair["related"])


if __name__ == "__main__":
    main()
