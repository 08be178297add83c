"""Runs of studies as processes of their own, forked from one that has imported everything: cheap to kill by the dozen.

As a script it reads lines of JSON {study, api_url, log} and, for each, forks a process that runs the pipeline as
`fute run` does; it prints the process' id, then, when it has ended, its exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

TIMEOUT_S = 300


class Forker:
    """One process that forks runs, one at a time. Use it in a `with`."""

    def __init__(self, api_url: str, calls: Path) -> None:
        self._api_url = api_url
        env = {**os.environ, "FUTE_TEST_CALLS": str(calls), "PREFECT_API_URL": api_url}
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         env=env, cwd=Path(__file__).parents[2])  # fmt: skip
        self._number()  # all is imported

    def __enter__(self) -> Forker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def start(self, study: Path) -> int:
        """Start a run; the id of its process, which leads a process group of its own."""
        assert self._process.stdin is not None
        request = {"study": str(study), "log": str(study.parent / "run.log")}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return self._number()

    def wait(self) -> int:
        """The exit code of the run that was started; minus the signal that killed it."""
        return self._number()

    def run(self, study: Path) -> int:
        self.start(study)
        return self.wait()

    def start_and_reach(self, study: Path, writes: int) -> int:
        """Start a run and wait until it has made so many files, or has ended; the id of its process."""
        store = study.parent / "store"
        before = files_below(store)
        pid = self.start(study)
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended, and was reaped
            while files_below(store) < before + writes and Path(f"/proc/{pid}/cmdline").read_bytes():
                time.sleep(0.005)
        return pid

    def killed_after(self, study: Path, writes: int, seconds: float) -> bool:
        """Start a run and kill -9 it so long after it has made so many files; whether it was still running."""
        pid = self.start_and_reach(study, writes)
        time.sleep(seconds)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def _number(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that forks runs has ended")
        return int(line)


def files_below(folder: Path) -> int:
    """How many there are now, half-written ones among them."""
    return sum(len(files) for _, _, files in os.walk(folder))


def run(request: dict[str, Any]) -> int:
    """In the forked process: the pipeline, with its log in a file."""
    import logging

    from flows.pipeline import pipeline

    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(level=logging.INFO, force=True)
    signal.alarm(TIMEOUT_S)  # one that hangs ends, and the test says so
    state: Any = pipeline(request["study"], return_state=True)
    return 0 if state.is_completed() else 3 if state.name == "CompletedWithFailures" else 1


def main() -> None:
    os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")
    for module in ("mlflow", "flows.pipeline", "fute.methods.tupate.embed", "fute.train.tfidf"):
        importlib.import_module(module)  # now, and in no run again
    print(0, flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            code = 1
            try:
                code = run(json.loads(line))
            finally:
                os._exit(code)  # without the cleaning up of what the parent imported
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
