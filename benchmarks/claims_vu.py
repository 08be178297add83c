"""Where does the best source that Vu et al. found stand in our ranking? Classification, regression and spans together.

    OMP_NUM_THREADS=1 python benchmarks/claims_vu.py --methods crosscov tupate

No source is trained here: the truth is the source with the highest target score among 33 tasks, BERT-base, full to
limited (Vu et al. 2020, arXiv 2005.00770, figure 2). Ranked are those tasks that the shared data has, by embeddings of
at most 300 training rows; beside them the vectors that were published with TuPaTE, of the same tasks and of all 20.
Needs the shared data: FUTE_SHARED, or ../shared beside the checkout.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Sequence
from functools import cache as once
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from claims_measures import Doubles, interval, ranks
from command import as_run, write_record
from quality import KeptVectors, _embedder
from real_tasks import manifest, read_task, real_pool, task_lists
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from fute.config import DatasetConfig, SurrogateConfig
from fute.data.ingest import ingest
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.embedder import Embedder
from fute.methods.taskemb.config import TaskembConfig
from fute.methods.tupate.config import TupateConfig
from fute.surrogate.features import compute_features
from fute.surrogate.load import load_surrogate
from fute.types import Dataset, Floats
from storage.stamp import code_version
from storage.store import Store

HERE = Path(__file__).parent
NAMES = {
    "BoolQ": "boolq", "CoLA": "cola", "DuoRC-p": "duorc_p", "HotpotQA": "hotpotqa", "MNLI": "mnli", "MRPC": "mrpc",
    "QNLI": "qnli", "QQP": "qqp", "RTE": "rte", "SNLI": "snli", "SQuAD-1": "squad_v1", "SQuAD-2": "squad_v2",
    "SST-2": "sst2", "STS-B": "stsb", "WNLI": "wnli",
}  # fmt: skip
"""Vu et al.'s name -> ours: what both have."""
OFFICIAL = {"squad_v1": "squad", "hotpotqa": "hotpot_qa"}
"""Our name -> the published file's, where they differ."""
ELSEWHERE = {"ComQA": "com_qa", "DROP": "drop", "DuoRC-s": "duorc_s", "NewsQA": "newsqa", "SciTail": "scitail"}
"""Vu et al.'s name -> the published file's, of tasks that the shared data has not."""
ROWS, SPAN_ROWS = 300, 300
TRAINED = {"max_rows": ROWS, "max_tokens": 48, "max_tokens_spans": 160}
METHODS: dict[str, Any] = {
    "crosscov": CrosscovConfig(),
    "tupate": TupateConfig.model_validate(TRAINED),
    "taskemb": TaskembConfig.model_validate({**TRAINED, "max_rows": SPAN_ROWS}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=["crosscov"])
    parser.add_argument("--cache", type=Path, default=HERE / ".cache")
    parser.add_argument("--out", type=Path, default=HERE / "results/claims_vu.json")
    options = parser.parse_args()
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    facts = list(csv.DictReader((shared / "reference/taskemb_transfer/best_source_full_to_limited.csv").open()))
    results = {}
    ids, classes = list(NAMES.values()), {r["target"]: r["target_class"] for r in facts}
    best = {NAMES[r["target"]]: NAMES[r["best_source"]] for r in facts if {r["target"], r["best_source"]} <= set(NAMES)}
    with threadpool_limits(1):
        for name, vectors in embedded(shared, options.methods, options.cache).items():
            results[name] = ranks(ids, vectors @ vectors.T, best)
            centred = normalize(vectors - vectors.mean(axis=0))
            results[f"{name}, members' reference"] = ranks(ids, centred @ centred.T, best)
            print(name, results[name], flush=True)
    ours = list(results)
    published = {i: np.load(shared / f"reference/tupate_official/{OFFICIAL.get(i, i)}.npy") for i in ids}
    results["TuPaTE's published vectors"] = ranks(ids, _cosines(list(published.values())), best)
    every = published | {n: np.load(shared / f"reference/tupate_official/{n}.npy") for n in ELSEWHERE.values()}
    names = NAMES | ELSEWHERE
    of_all = {
        names[r["target"]]: names[r["best_source"]] for r in facts if {r["target"], r["best_source"]} <= set(names)
    }
    results["TuPaTE's published vectors, all 20"] = ranks(list(every), _cosines(list(every.values())), of_all)
    kind = np.array([classes[n] for n in NAMES])
    results["same class first (classification and regression, or questions)"] = ranks(ids, kind[:, None] == kind, best)
    often = np.array([[sum(b == i for t, b in best.items() if t != j) for i in ids] for j in ids], float)
    results["most often best for other targets"] = ranks(ids, often, best)
    results["random"] = ranks(ids, np.zeros((len(ids), len(ids))), best)
    for name, found in results.items():
        mean, low, high = found["mean_rank"]
        print(f"{name:<64}{mean:>6.2f} ({low:.2f} to {high:.2f}) of {found['candidates']}, {found['targets']} targets")
    differences = {
        f"{name} minus {other}": interval(
            np.array([r - results[other]["rank"][t] for t, r in results[name]["rank"].items()])
        )
        for name in ours
        for other in ("random", "TuPaTE's published vectors")
    }
    for name, (mean, low, high) in differences.items():
        print(f"{name:<64}{mean:>+6.2f} ({low:+.2f} to {high:+.2f})")
    choice = [r["taskemb_choice"] == r["best_source"] for r in facts]
    write_record(
        {
            "command": f"OMP_NUM_THREADS=1 {as_run(__file__)}", "git_commit": code_version(),
            "settings": {name: METHODS[name].identity() for name in options.methods},
            "first_choice_of_their_taskemb_is_best": [sum(choice), len(choice)], "results": results,
            "differences in rank": differences,
        },
        options.out,
    )  # fmt: skip


def embedded(shared: Path, methods: Sequence[str], cache: Path) -> dict[str, Floats]:
    """Method -> (tasks, dim) at unit length."""
    if not methods:
        return {}
    entries = manifest(shared)
    learnable, tried = task_lists(shared)
    everything = [read_task(shared, entries[name]) for name in dict.fromkeys([*learnable, *tried])]
    pool = real_pool(shared, "loose", 0, everything)
    datasets = [read_dataset(shared, entries[i]) for i in NAMES.values()]
    plain, store = load_surrogate(SurrogateConfig(), HERE), Store(cache)
    features = store.cached_features(plain.id, partial(compute_features, plain))
    found = {}
    for name in methods:
        config = SurrogateConfig(dtype="float32" if name == "crosscov" else "auto")
        kept = KeptVectors(cache / "quality", METHODS[name], config, pool, 0)
        embedder = once(partial(_embedder, METHODS[name], config, features, pool, 0))
        vectors = []
        for dataset in datasets:
            make = partial(_dataset_vector, embedder, dataset)
            vectors.append(kept.get(f"{dataset.id} of {len(dataset.train)} rows", make))
            print(f"  {name}, {dataset.id}", flush=True)
        found[name] = normalize(np.stack(vectors))
    return found


def _dataset_vector(embedder: Callable[[], Embedder], dataset: Dataset) -> Floats:
    return embedder().dataset(dataset).vector


def read_dataset(shared: Path, entry: dict[str, Any]) -> Dataset:
    """A task of any type, its training rows by the seed 0."""
    spans = entry["task_type"] == "span_qa"
    first, *second = ["question", "context"] if spans else [c for c in entry["text_columns"] if c != "label"]
    config = {
        "id": entry["id"], "data": {"files": {"train": f"tasks/{entry['id']}/train.parquet"}},
        "task": entry["task_type"], "text": first, "text_pair": second[0] if second else None,
        "label": "answers" if spans else "label", "label_names": entry["label_names"],
        "max_rows": SPAN_ROWS if spans else ROWS,
    }  # fmt: skip
    return ingest(DatasetConfig.model_validate(config), shared / "data", seed=0)


def _cosines(vectors: Sequence[Floats]) -> Doubles:
    unit = normalize(np.stack([v.ravel() for v in vectors]))
    return np.asarray(unit @ unit.T, dtype=np.float64)


if __name__ == "__main__":
    main()
