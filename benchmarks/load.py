"""Many models in one run: seconds, memory, size of the store, and what a hundred readers see while it writes.

    python benchmarks/load.py --out benchmarks/results/load.json       # 50 and 500 models x 5,000 pool rows: minutes
    python benchmarks/load.py --models 5 10 --rows 400 --readers 5     # a quick look

The run is `fute run` in a process of its own, on a study with crosscov alone: real flows, a temporary Prefect server,
a store in a temporary folder, made-up texts, features from the embedded surrogate. A model is a Python function, random
weights over hashed words, so that asking it costs little and the pipeline's own work shows. Each number of models
starts from an empty store; the largest has readers beside it. Readers are threads of another process; each opens the
store, asks a few queries and waits after each. Memory is what a process has for itself alone, without pages of files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from storage import catalog
from storage.stamp import code_version

PROGRAM = "import sys; from flows.cli import main; main(['run', sys.argv[1]])"
TASKS = 8  # datasets, each with its own vocabulary
SAMPLE_S = 0.1
STAGES = ("ingest", "surrogate", "outputs", "embed", "unify", "report")

MODELS = '''
"""A model: random weights over hashed words, by its number; the same for every run."""
import functools

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

words = HashingVectorizer(n_features=512, alternate_sign=False)
_last = [None, None]


def answer(texts, pairs, number, classes):
    if _last[0] != (len(texts), texts[0]):  # all are asked about one pool
        _last[:] = [(len(texts), texts[0]), words.transform(texts)]
    weights = np.random.default_rng(number).normal(0, 6, (512, classes))
    scores = _last[1] @ weights
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)
'''

QUERIES = [
    "SELECT count(*), max(created_at) FROM models",
    "SELECT kind, count(*), avg(norm) FROM embeddings GROUP BY kind",
    "SELECT * FROM nearest('task-0', k := 5)",
    "SELECT model, count(*) FROM outputs WHERE row < 10 GROUP BY model ORDER BY model LIMIT 20",
    "SELECT flow, state, seconds FROM runs",
]


def write_study(folder: Path, models: int, rows: int) -> Path:
    """Datasets, a pool of `rows` rows from many sources, and so many models."""
    rng = random.Random(0)
    nouns = [f"{a}{b}" for a in ("lamp", "river", "letter", "engine", "garden", "ticket") for b in ("", "s", " list")]
    verbs = ["was moved", "looks fine", "came late", "is missing", "needs care", "was sold", "went well", "broke"]
    tails = ["today", "again", "in spring", "by the door", "as usual", "at noon", "for once", "near home"]

    def text(task: int) -> str:
        special = f"topic{task} {rng.choice(['red', 'blue', 'old', 'new', 'warm', 'cold'])}"
        return f"{rng.choice(nouns)} {special} {rng.choice(verbs)} {rng.choice(tails)} number {rng.randrange(10**6)}"

    datasets = []
    for task in range(TASKS):
        texts = [text(task) for _ in range(200)]
        table = pa.table({"text": texts, "label": [["cool", "hot"][" red" in t or " warm" in t] for t in texts]})
        pq.write_table(table, folder / f"task-{task}.parquet")
        datasets.append({"id": f"task-{task}", "data": {"files": f"task-{task}.parquet"}})
    sources = 50
    for source in range(sources):
        texts = [text(source % TASKS) for _ in range(rows // sources + 10)]
        pq.write_table(pa.table({"text": texts}), folder / f"pool-{source:02d}.parquet")
    (folder / "load_models.py").write_text(MODELS)
    study = {
        "name": "load",
        "datasets": datasets,
        "pool": {"sources": [{"data": {"files": "pool-*.parquet"}}], "rows_per_source": rows // sources,
                 "max_rows": rows},
        "surrogate": {"max_tokens": 32},
        "methods": [{"method": "crosscov"}],
        "models": [
            {"kind": "python", "id": f"model-{n:04d}", "entry_point": "load_models:answer",
             "kwargs": {"number": n, "classes": 2 + n % 7}}
            for n in range(models)
        ],
    }  # fmt: skip
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


def resident_mb(pid: int) -> float:
    """Memory of a process now, without what it shares with files (Linux)."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def run(study: Path) -> dict[str, Any]:
    """One `fute run`: seconds altogether and by stage, and memory of its process (the Prefect server's is apart)."""
    started, began = time.perf_counter(), time.time()
    log = study.parent / "run.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(study)], stdout=subprocess.DEVNULL, stderr=errors
        )
    samples: list[tuple[float, float]] = []
    while process.poll() is None:
        try:
            samples.append((time.time(), resident_mb(process.pid)))
        except (FileNotFoundError, KeyError):  # it has just ended
            break
        time.sleep(SAMPLE_S)
    if process.wait() != 0:
        raise SystemExit(f"the run failed:\n{log.read_text()[-3000:]}")
    seconds = time.perf_counter() - started
    stages = seconds_by_stage(study.parent / "store", began)
    by_stage = {name: took for name, (took, _) in stages.items()}
    # The flow says "embed: ..." once each model has its nested run in MLflow.
    (told,) = [line.split()[0] for line in log.read_text().splitlines() if line[8:].lstrip().startswith("embed: ")]
    ended = time.strftime("%H:%M:%S", time.localtime(stages["embed"][1]))
    by_stage["tracking of models"] = seconds_of_day(told) - seconds_of_day(ended)
    by_stage["start and end"] = seconds - sum(by_stage.values())
    return {
        "seconds": seconds,
        "seconds_by_stage": by_stage,
        "peak_mb": max(mb for _, mb in samples),
        "peak_mb_by_stage": {
            name: max((mb for at, mb in samples if end - took <= at <= end), default=None)
            for name, (took, end) in stages.items()
        },
        "load_average": os.getloadavg()[0],
    }


def seconds_of_day(clock: str) -> int:
    hours, minutes, seconds = map(int, clock.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def seconds_by_stage(store: Path, since: float) -> dict[str, tuple[float, float]]:
    """Seconds of each stage and when it ended, as the newest run tells MLflow."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store}/mlflow.db")
    newest = "SELECT run_id FROM runs WHERE flow = 'pipeline' ORDER BY created_at DESC LIMIT 1"
    ((run_id,),) = catalog.query(store, newest).rows
    stages = {}
    for name in STAGES:
        (metric,) = client.get_metric_history(run_id, f"seconds_{name}")
        if metric.timestamp / 1000 < since:
            raise SystemExit(f"MLflow knows no {name} stage of this run")
        stages[name] = (metric.value, metric.timestamp / 1000)
    return stages


def sizes(store: Path) -> dict[str, Any]:
    """Files and megabytes below each folder of the store."""
    found = {}
    for entry in sorted(store.iterdir()):
        files = [f for f in entry.rglob("*") if f.is_file()] if entry.is_dir() else [entry]
        found[entry.name] = {"files": len(files), "mb": sum(f.stat().st_size for f in files) / 1e6}
    return found


class Readers:
    """Threads that each open the store, ask and wait, until they are stopped."""

    def __init__(self, store: Path, number: int, wait_s: float) -> None:
        self._store, self._wait_s = store, wait_s
        self._stop = threading.Event()
        self.opening_s: list[float] = []
        self.answering_s: list[float] = []
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._read, args=(n,)) for n in range(number)]

    def _read(self, number: int) -> None:
        """Again and again: open the store, ask each query, wait after each."""
        rng = random.Random(number)
        self._stop.wait(rng.uniform(0, self._wait_s))
        while not self._stop.is_set():
            try:
                started = time.perf_counter()
                with catalog.Catalog(self._store) as opened:
                    self.opening_s.append(time.perf_counter() - started)
                    for sql in QUERIES:
                        started = time.perf_counter()
                        opened.query(sql)
                        self.answering_s.append(time.perf_counter() - started)
                        if self._stop.wait(self._wait_s):
                            return
            except Exception as exc:  # any at all is what is counted here
                self.errors.append(f"{type(exc).__name__}: {exc}"[:500])
                self._stop.wait(self._wait_s)

    def until(self, stop: threading.Event) -> dict[str, Any]:
        for thread in self._threads:
            thread.start()
        stop.wait()
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return {
            "readers": len(self._threads),
            "wait_s": self._wait_s,
            "errors": len(self.errors),
            "first_errors": self.errors[:3],
            "opening_s": spread(self.opening_s),
            "answering_s": spread(self.answering_s),
        }


def spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {"n": 0}
    quantiles = {
        name: ordered[int(q * (len(ordered) - 1))] for name, q in (("p95", 0.95), ("p99", 0.99), ("largest", 1))
    }
    return {"n": len(ordered), "median": statistics.median(ordered), **quantiles}


def read_until_told(store: Path, readers: int, wait_s: float) -> None:
    """The readers' process: reads until its stdin is closed, then prints what it saw."""
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    print(json.dumps(Readers(store, readers, wait_s).until(stop)))


def run_with_readers(study: Path, readers: int, wait_s: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--read", str(study.parent / "store"), "--readers", str(readers),
               "--wait", str(wait_s)]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            measured = run(study)
            told, _ = process.communicate()
        finally:
            process.kill()
    return {**measured, "reading": json.loads(told)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--wait", type=float, default=30.0, help="seconds between two queries of one reader")
    parser.add_argument("--out", type=Path, default=None, help="a JSON file for the results")
    parser.add_argument("--read", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is not None:
        read_until_told(options.read, options.readers, options.wait)
        return
    results: dict[str, Any] = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("prefect", "mlflow", "duckdb", "pyarrow", "numpy")},
        "git_commit": code_version(),
        "pool_rows": options.rows,
        "datasets": TASKS,
        "runs": [],
    }

    def keep(what: str, models: int, measured: dict[str, Any]) -> None:
        results["runs"].append({"what": what, "models": models, **measured})
        stages = ", ".join(f"{name} {took:.1f}" for name, took in measured["seconds_by_stage"].items())
        print(f"{models} models, {what}: {measured['seconds']:.1f} s ({stages}), peak {measured['peak_mb']:.0f} MB",
              flush=True)  # fmt: skip
        if "reading" in measured:
            print(json.dumps(measured["reading"]), flush=True)

    for models in options.models:
        with tempfile.TemporaryDirectory() as folder:
            study = write_study(Path(folder), models, options.rows)
            if models < max(options.models):
                keep("alone", models, run(study))
            else:
                keep("with readers", models, run_with_readers(study, options.readers, options.wait))
            results["runs"][-1]["store"] = sizes(study.parent / "store")
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
