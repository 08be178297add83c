"""A store on object storage (any fsspec address): a folder on this machine mirrors it, and every write goes through.

What is stored is named by its fingerprint, so a mirror is at worst incomplete. It is pulled when a flow opens the store
(and by every task that runs on another machine than its flow); a file counts as written when object storage has it.

    <mirror>/outbox/    one entry for each file whose upload is not known to be done; the next pull sends it

Features, running SQLite files and an MLflow database in the store stay on the machine that made them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from fute.address import store_fault
from fute.errors import StoreError

MIRRORED = (
    "datasets", "pools", "models", "outputs", "spaces", "embeddings", "frames", "neighbors", "members",
    "drift", "evaluations", "runs", "reports", "prompts", "responses", "schema",
)  # fmt: skip
"""Folders of a store that object storage holds; of the responses, what is folded."""

CARD = "card.parquet"
"""In datasets/<ref>/ and models/<ref>/ it is uploaded last: with it the folder is whole."""

TRIES = 5
"""How often a pull lists object storage, where other machines delete what it is about to fetch."""

AT_ONCE = 32
"""Files that are fetched at the same time."""

NOTE_KEPT_S = 24 * 3600.0
"""How long a note of something that never came is kept; its file is put in place right after it."""

Version = tuple[int, int]
"""Size in bytes and time of change in whole seconds, which is as fine as S3 tells it."""

_mirrors: dict[Path, Mirror] = {}
_mirrors_lock = threading.Lock()


def mirror_at(address: str) -> Mirror:
    """The mirror of a store on this machine; one object for all who ask.

    It lies in the folder FUTE_MIRROR, else in the user's cache.

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
    with _mirrors_lock:
        return _mirrors.setdefault(folder / name, Mirror(address, folder / name))


@contextmanager
def written_through(target: Path) -> Iterator[None]:
    """Around the step that puts a file or folder in its place: uploads it too, where the store is a mirror.

    Raises:
        StoreError: it could not be uploaded. It lies in the mirror, and the next run that opens the store sends it.
    """
    found = _place_of(target)
    if found is None:
        yield
        return
    mirror, relative = found
    entry = mirror.note(relative)  # first: killed between the two steps, the file is still sent
    yield
    mirror.send(relative)
    entry.unlink(missing_ok=True)


def removed_through(target: Path) -> None:
    """After a file was deleted: deletes it in object storage too, where the store is a mirror."""
    if (found := _place_of(target)) is not None:
        mirror, relative = found
        mirror.remove(relative)


def _place_of(target: Path) -> tuple[Mirror, str] | None:
    """The mirror that a file lies in and its path there; None in a store that is a folder, and for what stays here."""
    for root, mirror in list(_mirrors.items()):
        if target.is_relative_to(root) and is_mirrored(relative := target.relative_to(root).as_posix()):
            return mirror, relative
    return None


def is_mirrored(relative: str) -> bool:
    """Whether object storage holds a file, by its path below the store."""
    top, _, rest = relative.partition("/")
    if any(part in ("", ".", "..") for part in relative.split("/")):
        return False  # a key in the bucket that leads out of the mirror
    return top in MIRRORED and (top != "responses" or ("/" not in rest and rest.endswith(".parquet")))


class Mirror:
    """One store on object storage and its folder on this machine. Safe between threads and processes.

    Keys are taken by the fsspec library from the environment (for S3: AWS_ACCESS_KEY_ID and its kin), never from here.
    """

    def __init__(self, address: str, root: Path) -> None:
        self.address = address
        self.root = root
        self._outbox = root / "outbox"
        self._arriving = root / "tmp" / "pull"  # one for all processes: only one pulls at a time
        self._lock = threading.Lock()
        self._opened: tuple[int, Any, str] | None = None

    def pull(self) -> None:
        """Send what an earlier run could not, fetch what is missing here, and drop what is gone there.

        Raises:
            StoreError: object storage cannot be reached, refuses, or has no such bucket.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "pull.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time: several workers here need not fetch everything twice
            for _ in range(TRIES):
                lost = self._pull_once()
                if not lost:
                    return
            raise StoreError(
                f"store {self.address}: {len(lost)} of the files that it lists are not there, such as {lost[0]}, and "
                f"so {TRIES} times in turn; is something deleting files? What was fetched is kept: run again"
            )

    def folders(self) -> list[str]:
        """Which of a store's folders object storage holds, none of a new store. Fetches nothing.

        Raises:
            StoreError: as for `pull`.
        """
        with self._told("it cannot be listed"):
            fs, prefix = self._open()
            try:
                listed = fs.ls(prefix, detail=False)
            except FileNotFoundError:
                listed = []
            if not listed:
                with suppress(PermissionError):
                    fs.ls(prefix.partition("/")[0])  # as in _there: is there such a bucket?
            names = {path.rstrip("/").rpartition("/")[2] for path in listed}
            return [name for name in MIRRORED if name in names]

    def note(self, relative: str) -> Path:
        """Remember that something is to be sent; the entry to delete when it was."""
        self._outbox.mkdir(parents=True, exist_ok=True)
        entry = self._outbox / uuid.uuid4().hex
        entry.write_text(relative)
        return entry

    def send(self, relative: str) -> None:
        """Upload a file, or a folder with its card last. A folder that is there already stays.

        Raises:
            StoreError: as for `pull`.
        """
        path = self.root / relative
        with self._told(f"{relative} cannot be uploaded; it stays in {self.root}, and the next run sends it"):
            fs, prefix = self._open()
            if not path.is_dir():
                fs.put_file(str(path), f"{prefix}/{relative}")
                _set_time(path, _version(fs.info(f"{prefix}/{relative}"))[1])
            elif not fs.exists(f"{prefix}/{relative}/{CARD}"):
                files = [p for p in path.rglob("*") if p.is_file()]
                for file in sorted(files, key=lambda p: (p == path / CARD, p)):
                    self.send(file.relative_to(self.root).as_posix())

    def remove(self, relative: str) -> None:
        """Delete a file there. Raises StoreError: as for `pull`."""
        with self._told(f"{relative} cannot be deleted"):
            fs, prefix = self._open()
            with suppress(FileNotFoundError):
                fs.rm_file(f"{prefix}/{relative}")

    # --------------------------------------------------------------------------------------------------------- inside

    def _open(self) -> tuple[Any, str]:
        """The file system and the path in it. Opened again after a fork, for it has threads and connections."""
        with self._lock:
            if self._opened is None or self._opened[0] != os.getpid():
                import fsspec  # slow to import, and most stores are folders

                try:
                    fs, prefix = fsspec.url_to_fs(self.address, use_listings_cache=False, skip_instance_cache=True)
                except (ImportError, ValueError) as exc:
                    raise StoreError(
                        f"store {self.address}: {exc}; for S3 install fute[s3], for another kind the fsspec "
                        "library that it names"
                    ) from exc
                self._opened = (os.getpid(), fs, prefix.rstrip("/"))
            return self._opened[1:]

    def _pull_once(self) -> list[str]:
        """Pull; or change nothing and return what was deleted there between the listing and the fetching."""
        # In this order: a file that another process writes meanwhile is either in the outbox or in the listing.
        here = self._here()
        waiting = self._waiting()
        for entry, relative in waiting.items():
            self.send(relative)
            entry.unlink(missing_ok=True)
        there = self._there()
        sent = set(waiting.values())
        gone = [r for r in here if r not in there and not sent.intersection(_and_parents(r))]
        if gone and not there:
            raise StoreError(
                f"{self.address} is empty, but {self.root}, which mirrors it, is not; was it emptied, or is the "
                "address wrong? To begin with an empty store, delete that folder"
            )
        wanted = {r: version for r, version in there.items() if here.get(r) != version}
        if lost := self._fetch(wanted):
            return lost
        self._put_in_place(list(wanted))
        for relative in gone:
            (self.root / relative).unlink(missing_ok=True)
        return []

    def _waiting(self) -> dict[Path, str]:
        """What is noted in the outbox and in its place here, by entry. Notes of what never came are dropped."""
        waiting = {}
        for entry in self._outbox.iterdir() if self._outbox.is_dir() else ():
            with suppress(FileNotFoundError):  # sent meanwhile
                relative = entry.read_text()
                # Else the note is being written, or its file is about to come; or their writer was killed in between.
                if is_mirrored(relative) and (self.root / relative).exists():
                    waiting[entry] = relative
                elif time.time() - entry.stat().st_mtime > NOTE_KEPT_S:
                    entry.unlink()
        return waiting

    def _here(self) -> dict[str, Version]:
        """The mirrored files of this machine."""
        found = {}
        for top in MIRRORED:
            for folder, _, names in os.walk(self.root / top):
                for name in names:
                    relative = os.path.relpath(os.path.join(folder, name), self.root)
                    if is_mirrored(relative) and (version := _version_of(self.root / relative)) is not None:
                        found[relative] = version
        return found

    def _there(self) -> dict[str, Version]:
        """What object storage holds; of a folder that is being uploaded, nothing yet."""
        with self._told("it cannot be listed"):
            fs, prefix = self._open()
            listed = fs.find(prefix, detail=True)
            if not listed:
                with suppress(PermissionError):  # keys may be for this prefix alone
                    fs.ls(prefix.partition("/")[0])  # an empty listing hides that there is no such bucket
            names = {path[len(prefix) + 1 :]: info for path, info in listed.items()}
            whole = {name.rpartition("/")[0] for name in names if name.endswith(f"/{CARD}")}
            return {
                name: _version(info)
                for name, info in names.items()
                if is_mirrored(name) and (_folder_of(name) is None or _folder_of(name) in whole)
            }

    def _fetch(self, wanted: dict[str, Version]) -> list[str]:
        """Download into the mirror's tmp/ folder; returns what is not there any more.

        What has arrived stays there until it is put in its place, also if the rest of it fails.
        """
        if not wanted:
            return []
        missing = [r for r, version in wanted.items() if _version_of(self._arriving / r) != version]
        for folder in {(self._arriving / r).parent for r in missing}:
            folder.mkdir(parents=True, exist_ok=True)
        with self._told("it cannot be read"):
            fs, prefix = self._open()

            def fetch(relative: str) -> bool:
                try:
                    fs.get_file(f"{prefix}/{relative}", str(self._arriving / relative))
                except FileNotFoundError:  # folded and deleted by another machine's maintenance, most likely
                    return False
                _set_time(self._arriving / relative, wanted[relative][1])
                return True

            # One by one, and not by the library's `get` of many, which ends at the first that is not there.
            with ThreadPoolExecutor(AT_ONCE if fs.async_impl else 1) as pool:
                return [r for r, arrived in zip(missing, pool.map(fetch, missing), strict=True) if not arrived]

    def _put_in_place(self, relatives: list[str]) -> None:
        """Move what has arrived into its place, files and whole folders."""
        arrived = self._arriving
        for whole in sorted({folder for r in relatives if (folder := _folder_of(r))}):
            if not (self.root / whole).exists():
                (self.root / whole).parent.mkdir(parents=True, exist_ok=True)
                os.rename(arrived / whole, self.root / whole)
        for relative in relatives:
            if (arrived / relative).exists():  # not moved with its folder
                (self.root / relative).parent.mkdir(parents=True, exist_ok=True)
                os.replace(arrived / relative, self.root / relative)
        if any(r.startswith("responses/") for r in relatives):
            # A response store looks for folded answers when its live folder has changed.
            live = self.root / "responses" / "live"
            live.mkdir(parents=True, exist_ok=True)
            os.utime(live)
        shutil.rmtree(arrived, ignore_errors=True)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except PermissionError as exc:
            raise StoreError(
                f"store {self.address}: {what}: no permission ({exc}); look at the keys in the environment "
                "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and at what they may do in the bucket"
            ) from exc
        except FileNotFoundError as exc:
            raise StoreError(
                f"store {self.address}: {what}: no such bucket or file ({exc}); create the bucket, or mend the address"
            ) from exc
        except Exception as exc:  # each library has its own: no connection, no keys, a time-out
            raise StoreError(f"store {self.address}: {what} ({type(exc).__name__}: {exc})") from exc


def _folder_of(relative: str) -> str | None:
    """The folder that appears whole or not at all, of a file in one."""
    parts = relative.split("/")
    return "/".join(parts[:2]) if parts[0] in ("datasets", "models") and len(parts) > 2 else None


def _and_parents(relative: str) -> list[str]:
    parts = relative.split("/")
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _version(info: dict[str, Any]) -> Version:
    changed = next((info[k] for k in ("LastModified", "last_modified", "updated", "mtime", "created") if k in info), 0)
    if isinstance(changed, str):
        changed = datetime.fromisoformat(changed)
    return int(info["size"]), int(changed.timestamp() if isinstance(changed, datetime) else changed)


def _version_of(path: Path) -> Version | None:
    """Of a file here; None of one that is not."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, int(status.st_mtime)


def _set_time(path: Path, seconds: int) -> None:
    """Files here have the times of those there: by them a changed file is told."""
    try:
        os.utime(path, (seconds, seconds))
    except FileNotFoundError:  # another writer has just put a newer one there
        return
