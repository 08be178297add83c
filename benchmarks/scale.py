"""How a store of very many embeddings answers: made-up vectors, written through the normal writer, asked in SQL.

    python benchmarks/scale.py                   10^4, 10^5 and 10^6 embeddings of 256 numbers, 10^5 of 2,048
    python benchmarks/scale.py --quick           2,000 and 10,000 of 64: a minute
    python benchmarks/scale.py --folder /data    where the stores are made (5 GB for the whole of it), and removed

What is measured, in seconds: writing in batches and one by one; folding what was written; opening the catalog; the
nearest ten of a subject in DuckDB, by fute.open().nearest without an index and with one; a scan by method and time;
near duplicates of all pairs. Results with settings, versions and commit go to benchmarks/results/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

import fute
from fute.types import Floats, TaskEmbedding
from storage import catalog, compaction, fold_kinds, nearest_index, removal
from storage.folding import files_of
from storage.stamp import Stamp, code_version
from storage.store import Store
from storage.vectors import VectorStore

SPACE = "scale"
BATCH = 10_000
SUBJECTS_A_FAMILY = 50
ONE_IN_TWIN = 1000  # rows that are a near copy of the row before
ONE_BY_ONE = 2000
ASKED = 3
ALL_PAIRS_SQL = 10_000  # more pairs than these are too many for SQL here
ALL_PAIRS = 100_000
WHOLE = ((10_000, 256), (1_000_000, 256), (100_000, 256), (100_000, 2048))
QUICK = ((2_000, 64), (10_000, 64))


def vectors_of(start: int, n: int, dim: int, centres: Floats) -> Floats:
    """(n, dim) subjects around the centres of their families; every thousandth nearly the one before it."""
    rng = np.random.default_rng(start)
    made = centres[rng.integers(0, len(centres), n)] + 0.8 * rng.standard_normal((n, dim), dtype=np.float32)
    twins = np.arange(1, n, ONE_IN_TWIN)
    made[twins] = made[twins - 1] + 0.01 * made[twins]
    return made.astype(np.float32)


def row_of(i: int) -> dict[str, Any]:
    return {
        "space": SPACE, "kind": "model", "fingerprint": f"{i * 2654435761 % 2**32:08x}{i:012x}",
        "subject": f"model-{i:07d}", "subject_fingerprint": f"{i:020x}", "subject_kind": "prompt",
        "task": f"task-{i % 100}", "method": "crosscov", "surrogate": "made-up", "revision": "r", "pool": "p",
        "seed": 0, "settings": "{}",
    }  # fmt: skip


def timed(call: Callable[[], Any], times: int = ASKED) -> dict[str, float]:
    """Seconds of the first call and the median of all."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return {"first": seconds[0], "median": statistics.median(seconds)}


def once(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def measure(root: Path, rows: int, dim: int) -> dict[str, Any]:
    """Fill a store with `rows` embeddings and ask it."""
    store = Store(root)
    vectors = VectorStore(store)
    vectors.put_space({"space": SPACE, "method": "crosscov", "surrogate": "made-up", "seed": 0}, Stamp())
    centres = np.random.default_rng(1).standard_normal((max(1, rows // SUBJECTS_A_FAMILY), dim), dtype=np.float32)
    told: dict[str, Any] = {"rows": rows, "dim": dim}

    writing = 0.0
    for start in range(0, rows, BATCH):
        n = min(BATCH, rows - start)
        made = [TaskEmbedding(v) for v in vectors_of(start, n, dim, centres)]
        names = [row_of(i) for i in range(start, start + n)]
        seconds, _ = once(lambda names=names, made=made: vectors.put_many(names, made, Stamp("run", "flow")))
        writing += seconds
    told["write_batches"] = writing
    folder, kind = fold_kinds.folders(store)[0]
    told["files_before"] = len(files_of(folder).live)
    told["fold_batches"], done = once(lambda: compaction.fold(store, folder, kind))
    told["remove_folded"], done = once(lambda: removal.remove_folded(store, folder, done, 0.0))
    assert not done.faults, done.faults
    told["files_after"] = len(files_of(folder).live)
    told["bytes"] = sum(path.stat().st_size for path in root.rglob("*.parquet"))

    def open_catalog() -> None:
        with catalog.Catalog(root):
            pass

    told["open_catalog"] = timed(open_catalog)
    door = fute.open(root)
    subject = row_of(rows // 2)["subject"]
    told["nearest_10_duckdb"] = timed(
        lambda: door.sql("SELECT subject, raw_cosine FROM most_similar($s, k := 10)", {"s": subject})
    )
    told["scan_by_method_and_time"] = timed(
        lambda: door.sql("""SELECT method, date_trunc('hour', created_at) AS hour, count(*), avg(norm) FROM embeddings
                            WHERE created_at > '2020-01-01' GROUP BY ALL ORDER BY hour""")
    )
    told["nearest_10_brute_force"] = timed(lambda: door.nearest(subject), 3)
    by_sql = door.sql("SELECT subject FROM most_similar($s, k := 10)", {"s": subject})["subject"].to_pylist()
    assert door.nearest(subject)["candidate"].to_pylist() == by_sql
    card = nearest_index.build_index(store, SPACE, "model")
    told["index"] = {"build": card.seconds, "bytes": card.bytes, "lists": card.lists, "probes": card.probes,
                     "recall_at_10": card.recall_at_10, "queries": card.queries, "library": card.library}  # fmt: skip
    told["nearest_10_index"] = timed(lambda: door.nearest(subject), 20)
    assert door.nearest(subject)["found_by"].to_pylist()[0] == "index"
    if rows <= ALL_PAIRS_SQL:
        told["near_duplicates_duckdb"], pairs = once(
            lambda: door.sql("SELECT count(*) AS n FROM near_duplicates($s, 0.99)", {"s": SPACE})["n"][0].as_py()
        )
        told["near_duplicates_found_duckdb"] = pairs
    if rows <= ALL_PAIRS and dim <= 256:
        told["near_duplicates"], found = once(lambda: door.near_duplicates(SPACE, 0.99))
        told["near_duplicates_found"] = found.num_rows
    return told


def measure_small_files(root: Path, rows: int, dim: int) -> dict[str, Any]:
    """One file for each embedding, as single tasks write them, asked before and after they are folded."""
    store = Store(root)
    vectors = VectorStore(store)
    vectors.put_space({"space": SPACE, "method": "crosscov", "surrogate": "made-up", "seed": 0}, Stamp())
    made = vectors_of(0, rows, dim, np.random.default_rng(1).standard_normal((40, dim), dtype=np.float32))

    def write() -> None:
        for i, vector in enumerate(made):
            vectors.put(row_of(i), TaskEmbedding(vector), Stamp("run", "flow"))

    told: dict[str, Any] = {"rows": rows, "dim": dim, "write_one_by_one": once(write)[0]}
    question = "SELECT subject FROM most_similar($s, k := 10)"

    def ask() -> dict[str, float]:
        return timed(lambda: fute.open(root).sql(question, {"s": row_of(7)["subject"]}), 3)

    def folder_bytes() -> int:
        return sum(path.stat().st_size for path in root.rglob("*.parquet"))

    told["before"] = {"bytes": folder_bytes(), "nearest_10_duckdb": ask()}
    folder, kind = fold_kinds.folders(store)[0]
    told["fold"], done = once(lambda: compaction.fold(store, folder, kind))
    told["remove_folded"], done = once(lambda: removal.remove_folded(store, folder, done, 0.0))
    assert done.removed == rows, done
    told["after"] = {"bytes": folder_bytes(), "nearest_10_duckdb": ask()}
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the stores are made; default: a temporary folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scale.json")
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": code_version(),
        "machine": {"cores": os.cpu_count(), "load_1_min": os.getloadavg()[0], "python": platform.python_version(),
                    "duckdb": duckdb.__version__},
        "unit": "seconds, where nothing else is said",
        "stores": [],
    }  # fmt: skip
    base = Path(tempfile.mkdtemp(prefix="fute-scale-", dir=arguments.folder))
    try:
        results["small_files"] = measure_small_files(base / "small", 200 if arguments.quick else ONE_BY_ONE, 256)
        print(json.dumps(results["small_files"]), flush=True)
        for rows, dim in QUICK if arguments.quick else WHOLE:
            root = base / f"{rows}-{dim}"
            results["stores"].append(measure(root, rows, dim))
            print(json.dumps(results["stores"][-1]), flush=True)
            shutil.rmtree(root)
            results["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(results, indent=1) + "\n")  # after each: the largest takes long
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(arguments.out)


if __name__ == "__main__":
    main()
