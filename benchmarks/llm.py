"""How close does the client come to what the endpoint could do? Against a loopback endpoint of fixed latency.

    python benchmarks/llm.py                                  # 16 and 64 in flight, 50 ms, then 50,000 calls for memory
    python benchmarks/llm.py --calls 2000 --memory-calls 0    # a quick look

With c requests in flight and a latency of l seconds, c / l calls a second are ideal. Measured is the whole way of a
prompted model: template, key, claim, budget if asked for, httpx, answer on disk, verbalizer. The endpoint is
a process of its own. Ratios depend on how busy the machine is, so its load is printed, and before each run what
threads with bare sockets reach.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fute.config import BudgetConfig, EndpointConfig, PromptConfig
from fute.llm.client import connect
from fute.models.prompted import PromptedModel
from fute.types import TextTable
from storage.budgets import StoredAccount
from storage.responses import ResponseStore
from storage.stamp import code_version

HERE = Path(__file__).parent
PROMPT = PromptConfig(
    id="p",
    template="Is this review positive or negative?\n\n{{text}}",
    verbalizer={"positive": ["positive"], "negative": ["negative"]},
)
TEXT = "The second half drags, but the leads are a joy to watch and the last scene alone is worth the ticket"


@contextmanager
def endpoint(latency_s: float) -> Iterator[str]:
    """The base URL of an endpoint in a process of its own."""
    command = [sys.executable, str(HERE / "llm_endpoint.py"), str(latency_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def counts(base_url: str) -> dict[str, Any]:
    with urllib.request.urlopen(base_url.replace("/v1", "/counts")) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident_mb() -> float:
    """Memory of this process now, in MB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Client:
    """A prompted model against the endpoint, with a store in a folder of its own."""

    def __init__(self, base_url: str, folder: Path, in_flight: int, with_budget: bool) -> None:
        config = EndpointConfig(id="e", base_url=base_url, model="benchmark", max_concurrency=in_flight)
        accounts = [StoredAccount(folder, "benchmark", "the run", BudgetConfig(max_calls=10**9))] if with_budget else []
        self.store = ResponseStore(folder)
        completer = connect(config, ledger=self.store, api_key="none-at-all", accounts=accounts)
        self._model = PromptedModel("m", PROMPT, config, completer=completer)
        self._asked = 0

    def ask(self, n: int) -> None:
        texts = [f"{TEXT} ({i})." for i in range(self._asked, self._asked + n)]
        self._asked += n
        outputs = self._model.outputs(TextTable(texts))
        assert outputs.details["calls"] == n, outputs.details


def throughput(latency_s: float, in_flight: int, calls: int, with_budget: bool) -> dict[str, Any]:
    with endpoint(latency_s) as base_url, tempfile.TemporaryDirectory() as folder:
        client = Client(base_url, Path(folder), in_flight, with_budget)
        client.ask(2 * in_flight)  # every connection is open, every module loaded
        served = counts(base_url)
        before, started = cpu_s(), time.perf_counter()
        client.ask(calls)
        seconds, used = time.perf_counter() - started, cpu_s() - before
        after = counts(base_url)
        client.store.close()
    return {
        "in_flight": in_flight,
        "budget": with_budget,
        "calls": calls,
        "ratio": calls / seconds / (in_flight / latency_s),
        "calls_a_second": calls / seconds,
        "client_cpu_ms_a_call": 1000 * used / calls,
        "server_cpu_ms_a_call": 1000 * (after["cpu_s"] - served["cpu_s"]) / (after["requests"] - served["requests"]),
        "most_in_flight": after["most_in_flight"],
        "load_average": os.getloadavg()[0],
    }


def bare_sockets(latency_s: float, in_flight: int, calls: int) -> dict[str, Any]:
    """What threads with a socket each and no client at all reach: what this machine gives at this moment."""
    request = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    with endpoint(latency_s) as base_url:
        port = int(base_url.split(":")[2].split("/")[0])

        def work(n: int) -> None:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for _ in range(n):
                    connection.sendall(request)
                    connection.recv(65_536)

        started = time.perf_counter()
        with ThreadPoolExecutor(in_flight) as pool:
            list(pool.map(work, [calls // in_flight] * in_flight))
        seconds = time.perf_counter() - started
    done = calls // in_flight * in_flight
    return {
        "in_flight": in_flight,
        "ratio": done / seconds / (in_flight / latency_s),
        "load_average": os.getloadavg()[0],
    }


def memory(calls: int, in_flight: int) -> dict[str, Any]:
    """Resident memory after each tenth of the calls, in MB; latency 0, so that it does not take long."""
    with endpoint(0.0) as base_url, tempfile.TemporaryDirectory() as folder:
        client = Client(base_url, Path(folder), in_flight, with_budget=False)
        client.ask(calls // 20)
        series = [resident_mb()]
        started = time.perf_counter()
        for _ in range(10):
            client.ask(calls // 10)
            series.append(resident_mb())
        seconds = time.perf_counter() - started
        client.store.close()
    # The slope over the second half: what is still growing when everything has been used once.
    grown = series[-1] - series[5]
    return {
        "calls": calls,
        "resident_mb": [round(value, 1) for value in series],
        "bytes_a_call": 1e6 * grown / (calls / 2),
        "calls_a_second": calls / seconds,
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--calls", type=int, default=6000, help="calls of each throughput run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-calls", type=int, default=50_000)
    parser.add_argument("--out", type=Path, default=None, help="a JSON file for the results")
    options = parser.parse_args()
    results: dict[str, Any] = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "httpx": version("httpx"),
        "git_commit": code_version(),
        "latency_ms": options.latency_ms,
        "throughput": [],
        "bare_sockets": [],
    }
    for in_flight in options.in_flight:
        for with_budget in (False, True):
            for _ in range(options.repeats):
                bare = bare_sockets(options.latency_ms / 1000, in_flight, options.calls // 2)
                results["bare_sockets"].append(bare)
                print(f"{in_flight} in flight, bare sockets: {bare['ratio']:.3f} of ideal", flush=True)
                found = throughput(options.latency_ms / 1000, in_flight, options.calls, with_budget)
                results["throughput"].append(found)
                print(
                    f"{in_flight} in flight{', budget' if with_budget else ''}: {found['ratio']:.3f} of ideal, "
                    f"{found['calls_a_second']:,.0f} calls/s, client {found['client_cpu_ms_a_call']:.2f} ms CPU a call "
                    f"(server {found['server_cpu_ms_a_call']:.2f}), load {found['load_average']:.1f}",
                    flush=True,
                )
    if options.memory_calls:
        found = results["memory"] = memory(options.memory_calls, max(options.in_flight))
        print(f"{found['calls']:,} calls: resident MB {found['resident_mb']}, {found['bytes_a_call']:.0f} bytes a call")
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
