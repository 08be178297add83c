"""How a store of many subjects answers, on made-up vectors.

    python benchmarks/scale.py                   20,000 subjects of 384 numbers in one space: a minute or two
    python benchmarks/scale.py --quick           1,000 of 64
    python benchmarks/scale.py --folder /data    where the stores are made (100 MB), and removed

Measured, in seconds: opening the catalog, the nearest ten of a subject in SQL and by fute.open().nearest, near
duplicates of all pairs, and how much memory the last two took in a process of their own; and 500 small files, written
one by one as tasks write them, asked before and after they are folded.
Results with settings, versions and commit go to benchmarks/results/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

import fute
from fute.types import Floats, TaskEmbedding
from storage import catalog, schemas
from storage.files import write_parquet
from storage.folding import fold
from storage.parts import FOLDED
from storage.stamp import Stamp, code_version
from storage.store import Store
from storage.vectors import VectorStore

SPACE = "scale"
SUBJECTS_A_FAMILY = 50
ONE_IN_TWIN = 1000  # rows that are a near copy of the row before
ASKED = 5
WHOLE, QUICK = (20_000, 384), (1_000, 64)
PART_ROWS = 5_000
NEAREST_IN_SQL = "SELECT subject FROM most_similar($s, k := 10)"
ASK = """
import json, resource, sys, time, fute
door, seconds, processor = fute.open(sys.argv[1]), [], []
for _ in range(int(sys.argv[3])):
    started, used = time.perf_counter(), time.process_time()
    found = getattr(door, sys.argv[2])(*json.loads(sys.argv[4]))
    seconds.append(time.perf_counter() - started)
    processor.append(time.process_time() - used)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
told = {"first": seconds[0], "median": sorted(seconds)[len(seconds) // 2], "rows": found.num_rows, "peak_bytes": peak,
        "processor": min(processor)}
print(json.dumps(told))
"""


def vectors_of(n: int, dim: int) -> Floats:
    """(n, dim) subjects around the centres of their families; every thousandth nearly the one before it."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((max(1, n // SUBJECTS_A_FAMILY), dim), dtype=np.float32)
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


def asked(root: Path, method: str, *arguments: Any, times: int = 1) -> dict[str, Any]:
    """An answer of the open store in a process of its own: seconds, rows and the most memory that the process held."""
    command = [sys.executable, "-c", ASK, str(root), method, str(times), json.dumps(arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def space_store(root: Path) -> VectorStore:
    vectors = VectorStore(Store(root))
    vectors.put_space({"space": SPACE, "method": "crosscov", "surrogate": "made-up", "seed": 0}, Stamp())
    return vectors


def fill(vectors: VectorStore, made: Floats) -> None:
    """Embeddings in parts, as folding leaves them: written one by one they take minutes."""
    schema = schemas.embeddings(made.shape[1])
    for start in range(0, len(made), PART_ROWS):
        block = made[start : start + PART_ROWS]
        rows = [row_of(start + i) for i in range(len(block))]
        columns = {f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in schema if f.name != "vector"}
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), made.shape[1])
        columns |= Stamp("run", "flow").columns(len(block))
        table = pa.table({name: columns[name] for name in schema.names}, schema=schema).sort_by("fingerprint")
        path = vectors.folder(SPACE, "model") / FOLDED / f"{start:08d}.parquet"
        write_parquet(vectors.store.scratch, path, table, row_group_size=4096)


def measure_small_files(root: Path, rows: int, dim: int) -> dict[str, Any]:
    """One file for each embedding, as single tasks write them, asked before and after they are folded."""
    vectors = space_store(root)

    def write() -> None:
        for i, vector in enumerate(vectors_of(rows, dim)):
            vectors.put(row_of(i), TaskEmbedding(vector), Stamp("run", "flow"))

    def fold_all() -> None:
        done = fold(vectors.store, vectors.folder(SPACE, "model"))
        assert (done.files, done.faults) == (rows, [])

    def look() -> dict[str, Any]:
        asked_in_sql = timed(lambda: fute.open(root).sql(NEAREST_IN_SQL, {"s": row_of(7)["subject"]}), 3)
        return {
            "bytes": sum(path.stat().st_size for path in root.rglob("*.parquet")),
            "nearest_10_in_sql": asked_in_sql,
        }

    told: dict[str, Any] = {"rows": rows, "dim": dim, "write_one_by_one": timed(write, 1)["first"], "before": look()}
    return {**told, "fold": timed(fold_all, 1)["first"], "after": look()}


def measure(root: Path, rows: int, dim: int) -> dict[str, Any]:
    """Fill a store with `rows` embeddings and ask it."""
    fill(space_store(root), vectors_of(rows, dim))

    def open_catalog() -> None:
        with catalog.Catalog(root):
            pass

    subject, door = row_of(rows // 2)["subject"], fute.open(root)
    told: dict[str, Any] = {"rows": rows, "dim": dim, "open_catalog": timed(open_catalog)}
    told["bytes"] = sum(path.stat().st_size for path in root.rglob("*.parquet"))
    told["nearest_10_in_sql"] = timed(lambda: door.sql(NEAREST_IN_SQL, {"s": subject}))
    told["nearest_10"] = asked(root, "nearest", subject, times=ASKED)
    told["near_duplicates"] = asked(root, "near_duplicates", SPACE, 0.99)
    assert door.nearest(subject)["candidate"].to_pylist() == door.sql(NEAREST_IN_SQL, {"s": subject})[0].to_pylist()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the store is made; default: a temporary folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scale.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fute-scale-", dir=arguments.folder) as folder:
        measured = measure(Path(folder) / "store", *(QUICK if arguments.quick else WHOLE))
        measured["small_files"] = measure_small_files(Path(folder) / "small", 500, 256)
    results = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": code_version(),
        "machine": {"cores": os.cpu_count(), "load_1_min": os.getloadavg()[0], "python": platform.python_version(),
                    "duckdb": duckdb.__version__},
        "unit": "seconds, where nothing else is said",
        **measured,
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(measured, indent=1))
    print(arguments.out)


if __name__ == "__main__":
    main()
