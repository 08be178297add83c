"""Seconds and memory of one more model: crosscov, tupate and taskemb against the released procedure, in one run.

    python benchmarks/methods.py                        # all four shapes, rows to suit a small machine
    python benchmarks/methods.py --shapes minilm --rows 1000
    python benchmarks/methods.py --device cuda --dtype bfloat16 --rows 1000

Texts are those of the shared data's unlabelled sources (FUTE_SHARED, or ../shared beside the checkout), in random
order, so their lengths are real; weights and answers are random. Every measurement is a process of its own, so that its
peak memory is its own. "plain" is the released procedure (plain.py). What is made once for a space is counted apart
where it is made on opening it (tokens, crosscov's features and whitening); T5's encoder output is made with the first
model and so counts as a part of the models' seconds. On a CPU the clock is that of one core's work, which other
processes do not disturb.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command import as_run
from plain import ACCUMULATED, MICRO_BATCH, plain_taskemb, plain_tupate
from real_tasks import real_pool
from shapes import SHAPES, shaped_surrogate

from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.methods.taskemb.config import TaskembConfig
from fute.methods.taskemb.embed import Taskemb
from fute.methods.tupate.config import TupateConfig
from fute.methods.tupate.embed import Tupate
from fute.surrogate.features import compute_features
from fute.types import Outputs, Pool, TextTable
from storage.stamp import code_version

HERE = Path(__file__).parent
ROWS = {"minilm": 384, "bert-base": 128, "t5-small": 256, "t5-base": 128}
MANY = (1, 8, 32)
MAX_TOKENS, CLASSES = 128, 3
STEP_ROWS = MICRO_BATCH * ACCUMULATED
"""Rows of one optimiser step, the same for both sides."""


def main() -> None:
    options = _options()
    if options.measure:
        print(json.dumps(measure(options)))
        return
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        _write_pool(Path(folder))
        for shape in options.shapes:
            plain = [("plain tupate", 1), ("plain taskemb", 1)]
            ours = [(m, k) for m in ("crosscov", "tupate") for k in options.many]
            for method, many in [*plain, *ours, *(("taskemb", k) for k in options.many_taskemb)]:
                result = _in_a_process(options, shape, method, many, Path(folder))
                results.append(result)
                _write_results(options, results)  # a run that is stopped keeps what it has
                print(
                    f"  {shape} {method} x {many}: {result['seconds']:.3f} s a model, once {result['once']:.1f} s, "
                    f"peak {result['peak_mb']:.0f} MB",
                    flush=True,
                )
    for shape in options.shapes:
        print("\n" + table(shape, [r for r in results if r["shape"] == shape]))
    print(f"\nwritten to {options.out}")


def _write_results(options: argparse.Namespace, results: Sequence[dict[str, Any]]) -> None:
    record = {
        "command": as_run(__file__),
        "settings": {"device": options.device, "dtype": options.dtype, "threads": options.threads,
                     "max_tokens": MAX_TOKENS, "classes": CLASSES, "step_rows": STEP_ROWS},
        "machine": {"processor": platform.machine(), "gpu": _gpu(options.device), "cores": os.cpu_count()},
        "versions": {n: version(n) for n in ("torch", "transformers", "numpy")} | {"python": platform.python_version()},
        "git_commit": code_version(),
        "results": results,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--rows", type=int, help=f"texts of the pool; default: {ROWS}")
    parser.add_argument("--many", type=int, nargs="+", default=list(MANY), help="models of one run")
    parser.add_argument("--many-taskemb", type=int, nargs="+", default=[1, 8], help="the same for taskemb")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--dtype", choices=["auto", "float32", "bfloat16"], default="auto",
        help="of ours; plain is float32 throughout. auto, as shipped: bfloat16 where the hardware has it",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--together", default="auto", help="models trained in one pass (tupate): auto or a number")
    parser.add_argument("--out", type=Path, default=HERE / "results/methods.json")
    parser.add_argument("--measure", nargs=3, metavar=("SHAPE", "METHOD", "MODELS"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process(options: argparse.Namespace, shape: str, method: str, many: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", shape, method, str(many), "--folder", str(folder),
               "--device", options.device, "--dtype", options.dtype, "--threads", str(options.threads),
               "--together", str(options.together), "--rows", str(options.rows or ROWS[shape])]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{shape} {method} x {many} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds for each of some models, seconds of what is made once, and peak memory, in this process."""
    shape, method, many = options.measure[0], options.measure[1], int(options.measure[2])
    torch.set_num_threads(options.threads)
    # The released procedure is float32 throughout.
    dtype = "float32" if method.startswith("plain") else options.dtype
    surrogate = shaped_surrogate(
        shape, options.folder, max_tokens=MAX_TOKENS, device=options.device, dtype=dtype, whole=method != "crosscov"
    )
    pool = _read_pool(options.folder, options.rows)
    outputs = [_answers(len(pool), seed) for seed in range(many)]
    clock = time.perf_counter if surrogate.device.type == "cuda" else time.process_time
    started = clock()
    run: Callable[[], Any]
    if method == "plain tupate":
        # How fute finds the attention layers is not what is compared.
        ours = Tupate(TupateConfig(), surrogate, pool, 0)
        given = (ours.surrogate, ours._sites, pool.inputs, outputs[0].values)
        run = partial(plain_tupate, *given, epochs=1, max_tokens=MAX_TOKENS)
    elif method == "plain taskemb":
        run = partial(plain_taskemb, surrogate, pool.inputs, outputs[0].values, epochs=3, max_tokens=MAX_TOKENS)
    else:
        same_work = {"max_rows": len(pool), "max_tokens": MAX_TOKENS}
        if method == "crosscov":
            embedder: Any = Crosscov(CrosscovConfig(), lambda table: compute_features(surrogate, table), pool)
        elif method == "tupate":
            together = options.together if options.together == "auto" else int(options.together)
            settings = {**same_work, "epochs_model": 1, "batch_size_model": STEP_ROWS, "models_at_once": together}
            embedder = Tupate(TupateConfig.model_validate(settings), surrogate, pool, 0)
        else:
            settings = {**same_work, "epochs_model": 3, "batch_size": STEP_ROWS}
            embedder = Taskemb(TaskembConfig.model_validate(settings), surrogate, pool, 0)
        run = partial(embedder.models, outputs)
    before = _peak_bytes(surrogate.device)
    once = clock() - started
    started = clock()
    run()
    _wait(surrogate.device)
    seconds = clock() - started
    return {
        "shape": shape, "method": method, "models": many, "rows": len(pool), "dtype": surrogate.config.dtype,
        "seconds": seconds / many, "once": once,
        "before_mb": before / 2**20, "peak_mb": _peak_bytes(surrogate.device) / 2**20,
    }  # fmt: skip


def _write_pool(folder: Path) -> None:
    """Real texts in random order, read once for all processes."""
    shared = Path(os.environ.get("FUTE_SHARED", HERE.parents[1] / "shared"))
    whole = real_pool(shared, "loose", 0, [])
    order = np.random.default_rng(0).permutation(len(whole))
    inputs = whole.inputs.take(order)
    rows = {"texts": inputs.texts, "pairs": inputs.pairs, "sources": [whole.source_ids[i] for i in order]}
    (folder / "pool.json").write_text(json.dumps(rows), encoding="utf-8")


def _read_pool(folder: Path, n_rows: int) -> Pool:
    rows = json.loads((folder / "pool.json").read_text(encoding="utf-8"))
    return Pool(TextTable(rows["texts"][:n_rows], rows["pairs"][:n_rows]), rows["sources"][:n_rows])


def _answers(rows: int, seed: int) -> Outputs:
    values = np.random.default_rng(seed).dirichlet([0.5] * CLASSES, rows)
    return Outputs("probabilities", values.astype(np.float32))


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _gpu(device: str) -> str | None:
    return torch.cuda.get_device_name() if device.startswith("cuda") else None


def table(shape: str, results: Sequence[dict[str, Any]]) -> str:
    """Seconds a model, how many times cheaper than the plain procedure, and memory."""
    plain = {r["method"].removeprefix("plain "): r["seconds"] for r in results if r["method"].startswith("plain")}
    lines = [
        f"{shape}, {results[0]['rows']} texts",
        f"{'method':<16}{'models':>8}{'s a model':>12}{'once, s':>10}{'cheaper':>10}{'peak MB':>10}{'before':>9}",
    ]
    for r in results:
        # crosscov has no released procedure: it is held against the cheaper of the two that have.
        against = plain.get(r["method"], min(plain.values()))
        ratio = "" if r["method"].startswith("plain") else f"{against / r['seconds']:.1f} x"
        lines.append(
            f"{r['method']:<16}{r['models']:>8}{r['seconds']:>12.4f}{r['once']:>10.1f}{ratio:>10}"
            f"{r['peak_mb']:>10.0f}{r['before_mb']:>9.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
