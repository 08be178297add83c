"""How long commands take that only look, and a run with nothing left to do.

    make demo && python benchmarks/startup.py

Reads the demo's store as `make demo` leaves it; the run adds its record there, once a repetition. A round is each
command once, so that a load of the machine falls on all of them alike; what is told is the median of the rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from command import as_run, write_record

from storage.stamp import code_version

ROOT = Path(__file__).resolve().parents[1]
STORE, STUDY = ROOT / "demo" / "store", ROOT / "examples" / "quickstart.yaml"
LOOK = ("--store", str(STORE))

# The command, and the wall seconds that it may take on two cores with one other program at work.
COMMANDS: dict[str, tuple[tuple[str, ...], float]] = {
    "--help": (("--help",), 1.0),
    "ls": (("ls", *LOOK), 1.0),
    "sql": (("sql", "SELECT model, count(*) FROM outputs GROUP BY model", *LOOK), 1.0),
    "show": (("show", "product_reviews", *LOOK), 1.0),
    "nearest": (("nearest", "product_reviews", *LOOK), 1.0),
    "check": (("check", str(STUDY)), 2.0),
    "run, nothing to do": (("run", str(STUDY)), 5.0),
}


def measure(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Wall and processor seconds of a command, those of the processes that it waited for among them.

    Raises:
        RuntimeError: it failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"fute {' '.join(arguments)} ended with {process.returncode}:\n{said}")
    return wall, usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "startup.json")
    options = parser.parse_args()
    rounds = [{name: measure(command) for name, (command, _) in COMMANDS.items()} for _ in range(options.rounds)]
    rows = []
    print(f"{'fute':20}{'wall s':>8}{'CPU s':>8}{'target':>8}")
    for name, (_, target) in COMMANDS.items():
        wall, processor = (round(median(one[name][i] for one in rounds), 2) for i in (0, 1))
        rows.append({"command": name, "wall_s": wall, "processor_s": processor, "target_s": target})
        print(f"{name:20}{wall:8.2f}{processor:8.2f}{target:8.1f}")
    machine = {"git_commit": code_version(), "cores": os.cpu_count(), "python": platform.python_version(),
               "load": os.getloadavg()[0]}  # fmt: skip
    record = {"command": as_run(__file__), **machine, "rounds": options.rounds, "rows": rows}
    write_record(record, options.out)


if __name__ == "__main__":
    main()
