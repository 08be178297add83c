"""Ctrl-C, SIGTERM and kill -9 of a run in a terminal: nothing more is asked, what came is kept, no server stays."""

from __future__ import annotations

import os
import pty
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.exceptions import TerminationSignal

from flows.pipeline import pipeline
from fute import stopping
from storage import catalog
from tests.conftest import REPOSITORY
from tests.flows.embeddings import assert_same, vectors
from tests.flows.test_prompted_study import CANARY, answer, write_study
from tests.llm_server import LlmServer
from tests.processes import descendants, processes, until

pytestmark = [pytest.mark.slow, pytest.mark.alone]

IN_FLIGHT = 4
STUCK_S = 60.0
SOON_S = 8.0  # five, and what a busy machine adds


class Terminal:
    """`fute` in a pseudo-terminal of its own, whose Ctrl-C reaches all that runs in its foreground."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self._keyboard = pty.fork()
        if self.pid == 0:
            os.chdir(REPOSITORY)
            os.execv(sys.executable, [sys.executable, "-m", "flows.cli", *arguments])
        self.said = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                self.said += os.read(self._keyboard, 65536).decode(errors="replace")
            except OSError:  # nobody has the other end any more
                return

    def ctrl_c(self) -> None:
        os.write(self._keyboard, b"\x03")

    def wait(self) -> int:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._reader.join()
        os.close(self._keyboard)
        return code

    def started(self) -> set[int]:
        return descendants(self.pid)


def gone(pids: set[int]) -> bool:
    return not pids & {pid for pid, _, _ in processes()}


def assert_said(terminal: Terminal, store: Path, command: str) -> int:
    """One line of what is kept and how to go on, and nothing else that would frighten; the answers that are kept."""
    (line,) = re.findall(r"^stopped: .*$", terminal.said.replace("\r\n", "\n"), re.MULTILINE)
    kept, where, how = re.match(r"stopped: (\d+) answers? (?:is|are) kept in (.*); `(.*)` goes on", line).groups()
    assert (where, how) == (str(store), command)
    for noise in ("Traceback", "Crash", "Error", "httpx", "exception"):
        assert noise not in terminal.said, terminal.said
    return int(kept)


def test_a_run_that_is_stopped_in_a_terminal_asks_nothing_more_and_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    folder, store = tmp_path / "stopped", tmp_path / "stopped" / "store"
    with LlmServer(answer) as server:
        whole = write_study(tmp_path / "whole", server.base_url)
        assert pipeline(str(whole), return_state=True).is_completed()
        questions = server.n_requests
    with LlmServer(answer, latency_s=0.3) as server:
        study = str(write_study(folder, server.base_url, max_concurrency=IN_FLIGHT))

        def start(command: str, questions: int) -> Terminal:
            before = server.n_requests
            terminal = Terminal(command, study)
            until(lambda: server.n_requests >= before + questions, "questions")
            return terminal

        # Ctrl-C: what is in flight is answered and kept.
        run = start("run", 20)
        asked, started, pressed = server.n_requests, run.started(), time.monotonic()
        assert started
        run.ctrl_c()
        assert run.wait() == 128 + signal.SIGINT, run.said
        assert time.monotonic() - pressed < SOON_S
        assert server.n_requests <= asked + IN_FLIGHT
        assert assert_said(run, store, f"fute run {study}") == server.n_requests
        until(lambda: gone(started), "the end of the temporary server")
        assert catalog.query(store, "SELECT flow, state FROM runs").rows == [("pipeline", "Interrupted")]
        assert catalog.query(store, "SELECT count(*) FROM responses").rows == [(server.n_requests,)]
        client = MlflowClient(f"sqlite:///{store}/mlflow.db")
        (tracked,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
        assert tracked.info.status == "KILLED"

        # Answers that do not come are given up, and those that came until then are kept all the same.
        run = start("run", 5)
        asked, started = server.n_requests, run.started()
        server.latency_s = STUCK_S
        time.sleep(2)
        assert server.n_requests - len(server.answered) == IN_FLIGHT
        kept, asked, pressed = len(server.answered), server.n_requests, time.monotonic()
        os.kill(run.pid, signal.SIGTERM)
        assert run.wait() == 128 + signal.SIGTERM, run.said
        assert time.monotonic() - pressed < SOON_S
        assert server.n_requests == asked
        assert_said(run, store, f"fute run {study}")
        until(lambda: gone(started), "the end of the temporary server")
        states = catalog.query(store, "SELECT state FROM runs").rows
        assert states == [("Interrupted",)] * 2
        assert catalog.query(store, "SELECT count(*) FROM responses").rows == [(kept,)]
        lost = asked - kept

        # A second Ctrl-C ends it at once.
        run = start("run", IN_FLIGHT)
        asked, started = server.n_requests, run.started()
        run.ctrl_c()
        time.sleep(0.5)
        pressed = time.monotonic()
        run.ctrl_c()
        assert run.wait() == 128 + signal.SIGINT, run.said
        assert time.monotonic() - pressed < 3
        assert server.n_requests == asked
        until(lambda: gone(started), "the end of the temporary server")
        lost += IN_FLIGHT

        # kill -9: nobody can say anything, but nothing stays behind.
        run = start("run", IN_FLIGHT)
        started = run.started()
        os.kill(run.pid, signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        until(lambda: gone(started), "the end of the temporary server")
        lost += IN_FLIGHT

        # In the end nothing was paid twice but what was given up, and all bits are those of a run in peace.
        server.latency_s = 0.0
        assert pipeline(study, return_state=True).is_completed()
        assert server.n_requests == questions + lost
    assert_same(vectors(store), vectors(whole.parent / "store"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_of_a_flow_in_this_process_stops_its_tasks_and_no_later_flow(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a notebook, and SIGTERM, by which a deployment's run is cancelled."""
    before = signal.getsignal(number)
    if number == signal.SIGTERM:
        signal.signal(number, lambda *_: None)  # Prefect hands it on to whoever listened before its flow
    monkeypatch.setenv("FUTE_TEST_KEY", CANARY)
    with LlmServer(answer, latency_s=0.05) as server:
        study = write_study(tmp_path, server.base_url, max_concurrency=IN_FLIGHT)

        def interrupt() -> None:
            until(lambda: server.n_requests >= 20, "questions")
            os.kill(os.getpid(), number)

        threading.Thread(target=interrupt).start()
        with pytest.raises((KeyboardInterrupt, TerminationSignal)):
            pipeline(str(study))
        signal.signal(number, before)
        asked = server.n_requests
        assert asked < 40
        time.sleep(0.5)
        assert server.n_requests == asked
        stopping.check()
        assert pipeline(str(study), return_state=True).is_completed()
    assert max(server.asked.values()) == 1
    assert catalog.query(tmp_path / "store", "SELECT state FROM runs ORDER BY created_at").rows == [
        ("Interrupted",),
        ("Completed",),
    ]
