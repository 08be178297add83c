"""What does a kill -9 cost in the middle of many calls? The endpoint counts what it is asked.

    python benchmarks/llm_kill.py                  # 10,000 calls, 32 in flight, 50 ms each, killed at half of them

A process asks a prompted model about so many texts and is killed without a word; a second one, with the same store, is
asked for all of them again. What the endpoint was asked beyond one request a text was paid for twice.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from llm import PROMPT, TEXT, counts, endpoint

from fute.config import EndpointConfig
from fute.llm.client import connect
from fute.models.prompted import PromptedModel
from fute.types import TextTable
from storage import catalog
from storage.responses import ResponseStore
from storage.stamp import code_version

SETTLES_S = 1.0  # what had been sent when the process died is still counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--at", type=float, default=0.5, help="share of the calls after which it is killed")
    parser.add_argument("--out", type=Path, default=None, help="a JSON file for the result")
    parser.add_argument("--ask", nargs=2, metavar=("BASE_URL", "FOLDER"), help=argparse.SUPPRESS)  # the killed one
    options = parser.parse_args()
    if options.ask:
        print(json.dumps(ask(options.ask[0], Path(options.ask[1]), options.calls, options.in_flight)))
        return
    found = measure(options.calls, options.in_flight, options.latency_ms / 1000, options.at)
    print(
        f"{found['calls']:,} calls, {found['in_flight']} in flight: killed after {found['asked_before']:,} requests, "
        f"{found['kept']:,} answers kept; the second run asked {found['asked_after']:,} times and found "
        f"{found['found']:,}: {found['asked_twice']} were asked twice"
    )
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def ask(base_url: str, folder: Path, calls: int, in_flight: int) -> dict[str, Any]:
    """All texts, with a store in `folder`; what was asked now and what was found."""
    config = EndpointConfig(id="e", base_url=base_url, service="kill", model="benchmark", max_concurrency=in_flight)
    with ResponseStore(folder / "responses") as store:
        completer = connect(config, ledger=store, api_key="none-at-all")
        model = PromptedModel("m", PROMPT, config, completer=completer)
        outputs = model.outputs(TextTable([f"{TEXT} ({i})." for i in range(calls)]))
    assert outputs.answered is None or outputs.answered.all()
    return dict(outputs.details)


def measure(calls: int, in_flight: int, latency_s: float, at: float) -> dict[str, Any]:
    with endpoint(latency_s) as base_url, tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--calls", str(calls), "--in-flight", str(in_flight)]
        command += ["--ask", base_url, folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while counts(base_url)["requests"] < at * calls:
                if process.poll() is not None:
                    raise SystemExit(f"it ended with {process.returncode} before it could be killed")
                time.sleep(0.01)
            process.kill()
        time.sleep(SETTLES_S)
        before = counts(base_url)["requests"]
        ((kept,),) = catalog.query(Path(folder), "SELECT count(*) FROM responses").rows
        second = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        details = json.loads(second.stdout)
        after = counts(base_url)
    assert details["calls"] + details["cached"] == calls, details
    return {
        "calls": calls,
        "in_flight": in_flight,
        "most_in_flight": after["most_in_flight"],
        "latency_ms": 1000 * latency_s,
        "asked_before": before,
        "kept": kept,
        "asked_after": after["requests"] - before,
        "found": details["cached"],
        "asked_twice": after["requests"] - calls,
        "git_commit": code_version(),
    }


if __name__ == "__main__":
    main()
