"""Who is asking for what: claims that every process on the store sees, and that end with the process.

A claim is a lock of the operating system on one byte of one file; which byte is a hash of the key. The system drops
the locks of a process that ends, however it ends, so there are no leases to renew and none to wait for. SQLite's own
locks are of this kind.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from pathlib import Path

_registry: dict[tuple[int, Path], Claims] = {}
_registry_lock = threading.Lock()


class Claims:
    """Claims in one file. Get it from `claims_at`: closing any handle of the file drops all locks of the process."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("ab")
        # Locks of this kind do not hold between threads of one process; this does.
        self._held: set[int] = set()
        self._lock = threading.Lock()

    def claim(self, key: str) -> bool:
        """Take the claim, or say that another thread or process has it. Never waits."""
        byte = _byte_of(key)
        with self._lock:
            if byte in self._held:
                return False
            self._held.add(byte)
        # Outside: it is a system call, and other threads need not wait for it.
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: another process holds it
            with self._lock:
                self._held.discard(byte)
            return False
        return True

    def release(self, key: str) -> None:
        byte = _byte_of(key)
        if byte not in self._held:
            return
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)
        with self._lock:  # last: until then no other thread takes a lock that is about to be given up
            self._held.discard(byte)


def claims_at(path: Path) -> Claims:
    """The claims of this process in a file; one object for all who ask."""
    # By process: after a fork the child has none of its parent's locks, and must not believe that it has.
    name = (os.getpid(), path.resolve())
    with _registry_lock:
        if name not in _registry:
            _registry[name] = Claims(path)
        return _registry[name]


def _byte_of(key: str) -> int:
    # 56 bits: far beyond the end of the file, which is allowed and takes no space.
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7])
