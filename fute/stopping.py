"""Stopping a run before its end: whatever asks or computes for long looks here whether it is to go on.

One switch for the whole process, since what stops a run (Ctrl-C, a cancelled flow) means all of its threads.
"""

from __future__ import annotations

import threading

_wanted = threading.Event()


class Stopped(BaseException):
    """The run is being stopped. No Exception: code that carries on after a failure must not carry on after this."""

    may_be_charged = False  # raised instead of asking, never while an answer is awaited


def stop() -> None:
    """Let nothing new begin, in any thread."""
    _wanted.set()


def reset() -> None:
    """Allow work again, once a stopped run has ended."""
    _wanted.clear()


def check() -> None:
    """Raises Stopped: the run is being stopped."""
    if _wanted.is_set():
        raise Stopped


def pause(seconds: float) -> None:
    """Sleep. Raises Stopped: the run is being stopped, which ends the sleep."""
    if _wanted.wait(seconds):
        raise Stopped
