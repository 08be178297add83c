"""Processes, ports and waiting, for tests that start servers."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

PATIENCE_S = 300
ASK_S = 0.5
"""How often a server is asked: oftener, and it has little else to do."""


def until(reached: Callable[[], bool], what: str | Callable[[], str], every_s: float = 0.02) -> None:
    """Wait for it, looking so often; what it is, or how things stand, is said when the waiting was in vain."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what if isinstance(what, str) else what()}")
        time.sleep(every_s)


def free_ports(n: int) -> list[int]:
    probes = [socket.socket() for _ in range(n)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def free_port() -> int:
    return free_ports(1)[0]


def processes() -> Iterator[tuple[int, int, int]]:
    """Id, parent and process group of each process that has not ended."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, parent, group = stat.read_text().rpartition(")")[2].split()[:3]
            if state != "Z":
                yield int(stat.parent.name), int(parent), int(group)


def descendants(pid: int) -> set[int]:
    children = [child for child, parent, _ in processes() if parent == pid]
    return set(children).union(*(descendants(child) for child in children))


def alive(groups: set[int]) -> list[int]:
    return [pid for pid, _, group in processes() if group in groups]
