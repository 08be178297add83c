"""From which dataset should fine-tuning on a few rows start? The scores that methods of source selection are held to.

    OMP_NUM_THREADS=1 python benchmarks/transfer.py

MiniLM is fine-tuned on each of 16 real tasks; from each of these models, and from MiniLM itself ("none"), it is then
fine-tuned on a few rows of each of 12 tasks, three times over other rows, and scored on held-out rows. Every score is
written when it is there: killed, the same command goes on. Needs the shared data: the folder that FUTE_SHARED names, or
../shared beside the checkout. Trained source models are kept in --cache.

    ... --layers 3 --draws 2 --out benchmarks/results/transfer_scores_3_layers.json

does the same twice over, from the first three layers of MiniLM: a second backbone, for benchmarks/claims.py. It learns
nothing by the first one's recipe, and has one of its own.

Rows of a target whose text a source was given as well are left out of its training and its held-out rows (the film
reviews stand in several tasks). A task is no source for itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from command import as_run
from real_tasks import Task, manifest, read_task
from transfer_scores import NONE, load_scores, summary

from fute.config import SurrogateConfig, TransferConfig
from fute.data.sampling import generator, stratified_sample
from fute.fingerprint import fingerprint
from fute.surrogate.source import Source, find_source
from fute.train.finetune import FOLDER, finetune, finetuned_classifier
from fute.train.split import take
from fute.train.transfer import TargetRows, known_texts, source_recipe, target_rows, transfer
from storage.stamp import code_version

HERE = Path(__file__).parent
TARGETS = [
    "rotten_tomatoes", "cr", "semeval2017_sentiment", "financial_phrasebank",
    "tweeteval_hate", "hate_forum", "tweeteval_offensive",
    "ag_news", "mag_field", "yahoo_answers_topics",
    "emotion", "tweeteval_emotion",
]  # fmt: skip
SOURCES = [*TARGETS, "meld_emotion", "subj", "scicite", "trec_coarse"]
"""Four families with three or more members, so that in-class there is something to choose from, and strangers. No task
of text pairs: MiniLM learns none of those in the shared data from some hundred rows."""
MAX_ROWS = 1900  # read of a task's training split; the sources are trained on a part of them
SETTINGS = TransferConfig(
    sources=SOURCES, targets=TARGETS, rows=32, eval_rows=300, seeds=3, epochs=8, learning_rate=2e-4, max_tokens=48,
    dtype="bfloat16", source_rows=600, source_epochs=2, source_learning_rate=1e-4,
)  # fmt: skip
SHALLOW = SETTINGS.model_copy(
    update={"learning_rate": 5e-4, "dtype": "float32", "source_epochs": 4, "source_learning_rate": 5e-4}
)
"""For the first layers alone: found on rotten_tomatoes, subj and emotion as sources, the first two as starts for cr."""
SOURCE_SEED = 0
DEVICE = torch.device("cpu")


def main() -> None:
    options = _options()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    entries = manifest(shared)
    tasks = {i: read_task(shared, entries[i], max_rows=MAX_ROWS, splits=("train", "test")) for i in SOURCES}
    settings = (SETTINGS if options.layers is None else SHALLOW).model_copy(update={"seeds": options.draws})
    backbone = find_backbone(options.layers, options.cache)
    record = _open(options.out, tasks, backbone, settings, options.layers)
    starts = {NONE: backbone}
    for number, task in enumerate(tasks.values(), start=1):
        starts[task.id] = source_model(task, backbone, options.cache, record, settings)
        _write(options.out, record)
        print(f"source {number} of {len(tasks)}, {task.id}: {record['sources'][task.id]}", flush=True)
    known = {i: known_texts([task.dataset]) for i, task in tasks.items()}
    done = {(c["source"], c["target"], c["seed"]) for c in record["cells"]}
    todo = [(s, t) for s in range(settings.seeds) for t in TARGETS]
    started, cpu, new = time.time(), time.process_time(), 0
    for seed, target in todo:
        others = set().union(*(known[i] for i in SOURCES if i != target))
        rows = None
        for name, start in starts.items():
            if name == target or (name, target, seed) in done:
                continue
            rows = rows or draw(tasks[target], others, seed, record)
            result = transfer(start, rows, settings, seed=seed, device=DEVICE)
            record["cells"].append({"source": name, "target": target, "seed": seed, **_rounded(asdict(result))})
            _write(options.out, record)
            new += 1
        left = sum(len(starts) - 1 for _ in todo) - len(record["cells"])
        if new:
            each, own = (time.time() - started) / new, (time.process_time() - cpu) / new
            print(f"seed {seed}, {target}: {len(record['cells'])} cells, {left} left, {each:.1f} s each "
                  f"({own:.1f} s of CPU), {left * each / 60:.0f} min to go", flush=True)  # fmt: skip
    print(summary(load_scores(options.out)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=HERE / ".cache/transfer")
    parser.add_argument("--layers", type=int, help="use only so many of MiniLM's six layers; default: all")
    parser.add_argument("--draws", type=int, default=SETTINGS.seeds)
    parser.add_argument("--out", type=Path, default=HERE / "results/transfer_scores.json")
    return parser.parse_args()


def find_backbone(layers: int | None, cache: Path) -> Source:
    """MiniLM, or a folder with its first layers under the same embeddings."""
    whole = find_source(SurrogateConfig().model, None, HERE)
    if layers is None:
        return whole
    folder = cache / f"first {layers} layers of {whole.revision}"
    if not folder.is_dir():
        model = transformers.AutoModel.from_pretrained(whole.location, **whole.loading_options)
        model.encoder.layer = model.encoder.layer[:layers]
        model.config.num_hidden_layers = layers
        unfinished = folder.with_suffix(".unfinished")
        model.save_pretrained(unfinished)
        transformers.AutoTokenizer.from_pretrained(whole.location, **whole.loading_options).save_pretrained(unfinished)
        unfinished.rename(folder)
    return find_source(str(folder.resolve()), None, HERE)


def source_model(task: Task, backbone: Source, cache: Path, record: dict[str, Any], settings: TransferConfig) -> Source:
    """The backbone fine-tuned on a source, trained once and kept; its held-out accuracy goes into the record."""
    # Under no name, as the models in the cache were made: the name is part of their key.
    config = source_recipe(settings, task.id).model_copy(update={"id": None})
    key = fingerprint(dataset=task.dataset.fingerprint, backbone=backbone.revision, seed=SOURCE_SEED,
                      settings=config.model_dump(mode="json"), dtype=settings.dtype)  # fmt: skip
    folder = cache / f"{task.id}@{key}"
    card = folder / "score.json"
    if not card.is_file():
        shutil.rmtree(folder, ignore_errors=True)  # what a killed training left
        folder.mkdir(parents=True)
        rng = generator(SOURCE_SEED, "transfer source rows", task.dataset.fingerprint)
        training = take(task.dataset.train, stratified_sample(task.labels, config.max_rows or MAX_ROWS, rng))
        names = tuple(task.dataset.label_names or ())
        fitted = finetune(training, names, config, backbone, folder, seed=SOURCE_SEED, device=DEVICE,
                          dtype=getattr(torch, settings.dtype))  # fmt: skip
        held_out = task.dataset.splits["test"]
        held_out = take(held_out, stratified_sample(held_out.targets, settings.eval_rows, rng))
        answers = finetuned_classifier(folder, task.id, settings.max_tokens, "cpu").outputs(held_out.inputs).values
        majority = np.bincount(training.targets).argmax()
        score = {
            "family": task.family, "dataset_fingerprint": task.dataset.fingerprint, "rows": len(training),
            "accuracy": float((answers.argmax(axis=1) == held_out.targets).mean()),
            "majority": float((held_out.targets == majority).mean()), "last_epoch_loss": fitted["last_epoch_loss"],
        }  # fmt: skip
        card.write_text(json.dumps(_rounded(score)))
    record["sources"][task.id] = json.loads(card.read_text())
    return find_source(str(folder.resolve() / FOLDER), None, HERE)


def draw(task: Task, known: set[Any], seed: int, record: dict[str, Any]) -> TargetRows:
    rows = target_rows(task.dataset, rows=SETTINGS.rows, eval_rows=SETTINGS.eval_rows, seed=seed, known=known)
    record["targets"][task.id] = {
        "family": task.family, "dataset_fingerprint": task.dataset.fingerprint, "classes": len(rows.label_names),
        "rows": len(rows.training), "eval_rows": len(rows.held_out), "rows_left_out_as_shared": rows.n_shared,
    }  # fmt: skip
    return rows


def _open(
    out: Path, tasks: dict[str, Task], backbone: Source, transfers: TransferConfig, layers: int | None
) -> dict[str, Any]:
    """The record so far, or a new one."""
    first = {} if layers is None else {"layers": layers}
    settings = first | {
        "transfer": transfers.model_dump(mode="json"), "source_seed": SOURCE_SEED, "max_rows": MAX_ROWS,
        "backbone": SurrogateConfig().model, "backbone_revision": backbone.revision, "score": "accuracy",
        "datasets": fingerprint(**{i: task.dataset.fingerprint for i, task in tasks.items()}),
    }  # fmt: skip
    if out.is_file():
        record: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        seeds = max(transfers.seeds, record["settings"]["transfer"]["seeds"])
        settings["transfer"]["seeds"] = record["settings"]["transfer"]["seeds"] = seeds  # more draws go on with these
        if record["settings"] != settings:
            raise SystemExit(f"{out} holds scores of other settings or data; move it away to measure anew")
        return record
    versions = {n: version(n) for n in ("fute", "numpy", "torch", "transformers")} | {
        "python": platform.python_version()
    }
    command = f"OMP_NUM_THREADS=1 {as_run(__file__)}"
    return {
        "command": command, "settings": settings, "versions": versions, "git_commit": code_version(), "sources": {},
        "targets": {}, "cells": [],
    }  # fmt: skip


def _write(out: Path, record: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    lines = [json.dumps(cell) for cell in record["cells"]]
    head = json.dumps({k: v for k, v in record.items() if k != "cells"}, indent=1)
    partial.write_text(f'{head[:-2]},\n "cells": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n", encoding="utf-8")
    partial.replace(out)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
