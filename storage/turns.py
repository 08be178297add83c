"""Whose turn it is to fold a folder: one process of a machine, and of a store on object storage one machine.

Between processes it is a lock of the system (storage/claims.py). Between machines it is a small object in the bucket:

    <store>/claims/<folder>/<mirror>-<unique>

A machine writes its claim and lists the others after that; it goes on only if it sees none that was renewed within the
last hour. Of two machines the one that wrote later sees the other's claim, so never both go on; at worst both give way.
This asks of object storage only that a listing shows what was written before it, and no conditional writes, which not
every server has. All times that are compared are the bucket's own.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fute.errors import StoreError
from storage.claims import claims_at
from storage.files import Scratch
from storage.remote import Mirror
from storage.store import Store, slug

HELD_S = 3600.0
"""How long a claim in the bucket counts after its last renewal. Longer than a part takes to be written and sent."""

TRIES = 3


class Turn:
    """A turn that was taken."""

    def renew(self) -> None:
        """Before each step that changes the folder. Raises StoreError: it is another machine's turn by now."""


class BucketTurn(Turn):
    """The turn of this machine, of a store on object storage."""

    def __init__(self, mirror: Mirror, folder: str) -> None:
        self._mirror = mirror
        self._folder = f"claims/{slug(folder)}"
        self._mine = _name_of(mirror.root)
        self._own = f"{self._mine}-{uuid.uuid4().hex}"
        self._renewed_s = 0.0

    def take(self) -> bool:
        for attempt in range(TRIES):
            if attempt:  # two that came at once have both given way
                time.sleep(random.uniform(0.2, 2.0))
            self._write()
            if self._is_alone():
                return True
            self.release()
        return False

    def renew(self) -> None:
        # Half of it: the other half is left for what is begun now. The claims of others do not count here: they are of
        # machines that look whether it is their turn, and give way; one that went on has removed this one.
        slept = time.time() - self._renewed_s > HELD_S / 2
        if slept or self._own not in self._mirror.times(self._folder):
            raise StoreError(
                f"{self._mirror.address}: {self._folder} was not renewed in time, and another machine may have begun; "
                "run the maintenance again"
            )
        self._write()

    def release(self) -> None:
        self._mirror.remove(f"{self._folder}/{self._own}")

    def _write(self) -> None:
        self._renewed_s = time.time()
        self._mirror.write(f"{self._folder}/{self._own}", b"")

    def _is_alone(self) -> bool:
        """Whether no other claim counts; those that do not are removed."""
        times = self._mirror.times(self._folder)
        now = times.pop(self._own, None)
        if now is None:  # another machine took it for abandoned
            return False
        for name, seconds in times.items():
            # This machine has the system's lock: what it left itself is of a process that was killed.
            if now - seconds <= HELD_S and not name.startswith(f"{self._mine}-"):
                return False
            self._mirror.remove(f"{self._folder}/{name}")
        return True


@contextmanager
def folding_alone(store: Store, folder: str) -> Iterator[Turn | None]:
    """The turn to fold a folder, by its path below the store; None: it is another's.

    Raises:
        StoreError: object storage cannot be reached.
    """
    claims, claim = claims_at(store.root / "maintenance.claims"), f"fold {folder}"
    if not claims.claim(claim):
        yield None
        return
    try:
        if store.mirror is None:
            yield Turn()
            return
        turn = BucketTurn(store.mirror, folder)
        if not turn.take():
            yield None
            return
        try:
            yield turn
        finally:
            turn.release()
    finally:
        claims.release(claim)


def _name_of(root: Path) -> str:
    """Of a mirror, made up once: hosts may share a name."""
    path = root / "mirror.id"
    if not path.exists():
        new = Scratch(root).path()
        new.write_text(uuid.uuid4().hex)
        with suppress(FileExistsError):  # another process was first
            os.link(new, path)
        new.unlink()
    return path.read_text()
