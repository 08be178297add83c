"""A flow under the command line: Ctrl-C or SIGTERM stops it within seconds, keeps what it has, and says how to go on.

The flow runs in a thread of its own, so that the main thread, which alone hears signals, is always free to: within a
flow a signal would wait for the end of a computation, and then be taken for a crash.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from flows.session import close_interrupted
from fute import stopping
from storage.store import Store
from tasks import resources

if TYPE_CHECKING:
    from prefect.states import State

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LISTEN_S = 0.2
ENDING_S = 3.2  # for the answers in flight, and for the flow to end by itself
CLOSING_S = 1.3  # for the record of a flow that did not: together less than five seconds
EXIT_SIGNAL = 128  # and the signal's number: the exit code of what a signal ended


def run_flow(store: str, flow: Callable[..., Any], /, *args: Any, **kwargs: Any) -> State[Any]:
    """Run a flow and return its final state. Once a signal came it does not return: it ends the process.

    Args:
        store: address of the store that the flow writes to.
    """
    opened = Store(store)
    answers = resources.response_store(opened)
    outcome: list[State[Any] | BaseException] = []
    heard: list[int] = []

    def work() -> None:
        try:
            outcome.append(flow(*args, **kwargs, return_state=True))
        except BaseException as exc:
            outcome.append(exc)

    def end(number: int) -> NoReturn:
        end_process(number, what_is_kept(opened.address, answers.n_kept))

    def hear(number: int, _: FrameType | None) -> None:
        if heard:
            end(number)
        heard.append(number)
        # What follows is told in one line of ours, and not as a crash of each task.
        logging.disable(logging.CRITICAL)
        stopping.stop()

    # A daemon: one that does not end in time must not keep the process.
    thread = threading.Thread(target=work, name="flow", daemon=True)
    with heard_by(hear):
        thread.start()
        while thread.is_alive() and not heard:
            thread.join(LISTEN_S)
        if heard:
            thread.join(ENDING_S)
            if not outcome:
                closing = threading.Thread(target=_close, daemon=True)
                closing.start()
                closing.join(CLOSING_S)
            if not outcome or isinstance(outcome[0], BaseException) or outcome[0].name in ("Failed", "Crashed"):
                end(heard[0])
            logging.disable(logging.NOTSET)  # it was as good as done
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


@contextmanager
def heard_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Signals go to a handler of ours, but for one that is ignored (as `nohup` and `&` do)."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    wanted = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    for number in wanted:
        signal.signal(number, handler)
    yield
    for number in wanted:
        signal.signal(number, before[number])


def _close() -> None:
    with suppress(Exception):  # as after a kill -9: what was running is then found by the next run
        close_interrupted()


def what_is_kept(store: str, answers: int) -> str:
    kept = f"{answers} answer{' is' if answers == 1 else 's are'} kept" if answers else "what was done is kept"
    return f"stopped: {kept} in {store}; `{shlex.join(['fute', *sys.argv[1:]])}` goes on where this ended"


def end_process(number: int, line: str) -> NoReturn:
    """Say it and end, without waiting for threads that wait for an answer; all that matters is on disk by now."""
    lead = "\n" if sys.stderr.isatty() else ""  # after the ^C that a terminal shows
    # Not by print: a handler may have interrupted one.
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"{lead}{line}\n".encode())
    os._exit(EXIT_SIGNAL + number)
