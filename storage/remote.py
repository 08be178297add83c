"""A store on object storage (any fsspec address) and its mirror, a folder on this machine.

A run pulls what it lacks when it begins and pushes what it made when a stage ends; a task on another machine than its
flow does both itself. Files are named by what they were made from, so a mirror is at worst incomplete.

    <mirror>/mirror.json    the files that object storage is known to hold

What is not in this list, or has changed since, was made here and is pushed: also when the run that made it was killed.
What is in the list and no longer on object storage was folded by another machine, and the next pull drops it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from fute.address import store_fault
from fute.errors import StoreError
from storage.files import CARD, Scratch, write_file

MIRRORED = (
    "schema",
    "prompts",
    "responses",
    "datasets",
    "pools",
    "models",
    "outputs",
    "spaces",
    "embeddings",
    "frames",
    "alignments",
    "members",
    "neighbors",
    "accuracies",
    "retired",
    "drift",
    "evaluations",
    "reports",
    "runs",
)
"""Folders of a store that object storage holds (of the responses, the Parquet files), each after those it refers to."""

TRIES = 5
"""How often a pull or push begins anew, where others delete what it has listed and is about to copy."""

BATCH = 256
"""Files that are asked for together, and put in place when all of them are here."""

FIXES = {
    PermissionError: "; no permission: look at the keys in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) "
    "and at what they may do in the bucket",
    FileNotFoundError: "; no such bucket or file: create the bucket, or mend the address",
}


class Version(NamedTuple):
    """What a file was like when it was last copied, here and there."""

    size: int
    changed_ns: int
    state: str


Known = dict[str, Version]
Listed = dict[str, tuple[int, str]]
"""Size and state of each file in object storage."""


@dataclass(frozen=True)
class Mirror:
    """One store on object storage and its folder on this machine. Safe between threads and processes.

    Keys are taken by the fsspec library from the environment (for S3: AWS_ACCESS_KEY_ID and its kin), never from here.
    """

    address: str
    root: Path

    def pull(self) -> None:
        """Fetch what is missing here, and drop what is gone there.

        Raises:
            StoreError: object storage cannot be reached, refuses, or has no such bucket.
        """
        self._synchronize("it cannot be read", self._fetch)

    def push(self, folded: Sequence[Path] = ()) -> None:
        """Upload what was made here since the last push, then delete there what was folded here.

        Raises:
            StoreError: as for `pull`. What could not be uploaded stays here, and the next push uploads it.
        """
        gone = {path.relative_to(self.root).as_posix() for path in folded}
        fault = f"what was made here cannot be uploaded; it stays in {self.root}, and the next run sends it"
        self._synchronize(fault, lambda fs, prefix, known: self._send(fs, prefix, known, gone))

    def folders(self) -> list[str]:
        """Which of a store's folders object storage holds, none of a new store. Raises StoreError: as for `pull`."""
        with self._explained("it cannot be listed"):
            listed = _listed(*_connect(self.address, self.root, os.getpid()))
            return sorted({name.partition("/")[0] for name in _whole(listed)})

    def _synchronize(self, fault: str, step: Callable[[Any, str, Known], None]) -> None:
        """Take one step with the file system, the path in it and the list; one process or thread at a time."""
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / "mirror.json"
        with (self.root / "mirror.lock").open("ab") as lock, self._explained(fault):
            fcntl.flock(lock, fcntl.LOCK_EX)
            text = path.read_text() if path.exists() else "{}"
            known = {relative: Version(*version) for relative, version in json.loads(text).items()}
            try:
                for left in reversed(range(TRIES)):
                    try:
                        return step(*_connect(self.address, self.root, os.getpid()), known)
                    except FileNotFoundError:
                        if not left:
                            raise
            finally:
                if (changed := json.dumps(known)) != text:
                    write_file(Scratch(self.root), path, lambda temporary: temporary.write_text(changed))

    def _fetch(self, fs: Any, prefix: str, known: Known) -> None:
        listed = _listed(fs, prefix)
        there = _whole(listed)
        if known and not there:
            raise StoreError(
                f"{self.address} is empty, but {self.root}, which mirrors it, is not; was it emptied, or is the "
                "address wrong? To begin with an empty store, delete that folder"
            )
        here, wanted = _files(self.root), []
        for relative, (size, state) in there.items():
            version = known.get(relative)
            if relative not in here:
                wanted.append(relative)
            elif version is None and here[relative][0] == size:
                known[relative] = Version(*here[relative], state)  # uploaded by a push that was killed
            elif version and version[:2] == here[relative] and version.state != state:
                wanted.append(relative)
        for batch in _in_order(wanted):
            arriving = Scratch(self.root).path()
            try:
                fs.get([f"{prefix}/{r}" for r in batch], [str(arriving / r) for r in batch])
                for relative in batch:
                    write_file(Scratch(self.root), self.root / relative, (arriving / relative).replace)
                    known[relative] = Version(*_stat(self.root / relative), there[relative][1])
            finally:
                shutil.rmtree(arriving, ignore_errors=True)
        for relative in known.keys() - listed.keys():
            if here.get(relative) == known[relative][:2]:  # else it was made anew here, and is still to be pushed
                (self.root / relative).unlink(missing_ok=True)
            del known[relative]

    def _send(self, fs: Any, prefix: str, known: Known, gone: set[str]) -> None:
        made = {r: file for r, file in _files(self.root).items() if r not in gone and known.get(r, ())[:2] != file}
        for batch in _in_order(made):
            fs.put([str(self.root / r) for r in batch], [f"{prefix}/{r}" for r in batch])
        if made:
            listed = _listed(fs, prefix)
            known.update({r: Version(*made[r], listed[r][1]) for r in made if r in listed})
        for relative in gone & known.keys():
            with suppress(FileNotFoundError):
                fs.rm_file(f"{prefix}/{relative}")

    @contextmanager
    def _explained(self, fault: str) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as exc:  # each library has its own: no connection, no keys, a time-out
            fix = next((fix for kind, fix in FIXES.items() if isinstance(exc, kind)), "")
            raise StoreError(f"store {self.address}: {fault} ({type(exc).__name__}: {exc}){fix}") from exc


def mirror_at(address: str) -> Mirror:
    """The mirror of a store on this machine, in the folder FUTE_MIRROR, else in the user's cache.

    Raises:
        StoreError: the address is of a folder, or has a key or password in it.
    """
    if fault := store_fault(address):
        raise StoreError(f"the store's address cannot be used: {fault}")
    if address.startswith("file:"):
        raise StoreError(f"store {address}: give the folder's path itself, without file://")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get("FUTE_MIRROR") or f"{cache}/fute/mirrors").expanduser().resolve()
    address = address.rstrip("/")
    # Readable, and not the same for two addresses that differ only in what a file name may not hold.
    name = f"{re.sub(r'[^A-Za-z0-9.-]+', '-', address)}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
    return Mirror(address, folder / name)


def is_mirrored(relative: str) -> bool:
    """Whether object storage holds a file, by its path below the store."""
    top, _, rest = relative.partition("/")
    if any(part in ("", ".", "..") for part in relative.split("/")):
        return False  # a key in the bucket that leads out of the mirror
    return top in MIRRORED and (top != "responses" or ("/" not in rest and rest.endswith(".parquet")))


@lru_cache
def _connect(address: str, root: Path, process: int) -> tuple[Any, str]:
    """The file system and the path in it; another for each process, for it has threads and connections."""
    import fsspec  # slow to import, and most stores are folders

    try:
        fs, prefix = fsspec.url_to_fs(address, use_listings_cache=False, skip_instance_cache=True)
    except (ImportError, ValueError) as exc:
        raise StoreError(
            f"store {address}: {exc}; for S3 install fute[s3], for another kind the fsspec library that it names"
        ) from exc
    return fs, prefix.rstrip("/")


def _listed(fs: Any, prefix: str) -> Listed:
    """What object storage holds of a store."""
    found = fs.find(prefix, detail=True)
    if not found:
        with suppress(PermissionError):  # keys may be for this prefix alone
            fs.ls(prefix.partition("/")[0])  # an empty listing hides that there is no such bucket
    named = {path[len(prefix) + 1 :]: (info["size"], _state(info)) for path, info in found.items()}
    return {name: file for name, file in named.items() if is_mirrored(name)}


def _whole(listed: Listed) -> Listed:
    """Without the folders that are still being uploaded."""
    whole = {"", *(name.rpartition("/")[0] for name in listed if name.endswith(f"/{CARD}"))}
    return {name: file for name, file in listed.items() if _folder_of(name) in whole}


def _state(info: dict[str, Any]) -> str:
    """By which a file there is known to be the same: its hash where the library tells it, else its time."""
    return next((str(info[name]) for name in ("ETag", "etag", "mtime", "created") if name in info), "")


def _files(root: Path) -> dict[str, tuple[int, int]]:
    """The mirrored files of this machine, by path below the store."""
    paths = (path for top in MIRRORED for path in (root / top).rglob("*") if path.is_file())
    return {relative: _stat(path) for path in paths if is_mirrored(relative := path.relative_to(root).as_posix())}


def _stat(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _folder_of(relative: str) -> str:
    """The folder that counts once its card is there, of a file in one; else empty."""
    parts = relative.split("/")
    return "/".join(parts[:2]) if parts[0] in ("datasets", "models") and len(parts) > 2 else ""


def _in_order(relatives: Iterable[str]) -> Iterator[list[str]]:
    """Files as they are to be copied, so that whoever looks meanwhile finds what a file refers to, and cards last."""

    def turn(relative: str) -> tuple[int, bool]:
        return MIRRORED.index(relative.partition("/")[0]), relative.endswith(f"/{CARD}")

    for _, group in groupby(sorted(relatives, key=turn), turn):
        files = list(group)
        yield from (files[i : i + BATCH] for i in range(0, len(files), BATCH))
