"""Folding: the singles of a folder written once more as one part (storage/parts.py).

A part is written beside its place, renamed into it and read back, and only then its singles are deleted. A killed fold
leaves some records twice, which readers count once. Two machines that fold one bucket at once leave no more than that.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from fute.errors import StoreError
from fute.fingerprint import fingerprint_texts
from storage.files import read_parquet, write_parquet
from storage.parts import FOLDED, files_of, singles_of
from storage.schema_version import mark_current
from storage.store import Store, slug

FOLDERS = ("embeddings/space=*/kind=*", "runs", "drift/checks/*")
"""What is folded; everything else has one file for each model, prompt, ranking ... and stays as it is written."""

MIN_FILES = 16
PART_BYTES = 128 * 2**20
GROUP_BYTES = 8 * 2**20  # read together to get at one record


@dataclass
class Folded:
    """What was done to one folder.

    Attributes:
        folder: relative to the store.
        files: singles that were folded and deleted.
        parts: written for them.
        faults: what could not be read or written, with what to do; it is left as it is.
    """

    folder: str
    files: int = 0
    parts: int = 0
    faults: list[str] = field(default_factory=list)


def folders(store: Store) -> list[Path]:
    """Every folder that may be folded: a day's checks of drift once it is over, until then they are counted by name."""
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y%m%d}"
    found = [path for glob in FOLDERS for path in sorted(store.root.glob(glob)) if path.is_dir()]
    return [path for path in found if path.parent.name != "checks" or path.name < yesterday]


def fold(store: Store, folder: Path, *, min_files: int = MIN_FILES, part_bytes: int = PART_BYTES) -> Folded:
    """Fold the singles of a folder, if there are enough of them and no other process of this machine is at it."""
    done = Folded(folder.relative_to(store.root).as_posix())
    if len(singles_of(folder)) < min_files:
        return done
    with _lock(store.root / "locks" / slug(done.folder)) as locked:
        for singles in _batches(folder, min_files, part_bytes, done.faults) if locked else ():
            try:
                _write_part(store, folder, singles)
                store.push(folded=list(singles))  # first: what is missing here and not there is pulled again
                for path in singles:
                    path.unlink(missing_ok=True)
            except (StoreError, pa.ArrowException, OSError) as exc:
                done.faults.append(f"{done.folder}: {exc}")
                continue
            done.parts += 1
            done.files += len(singles)
    return done


def damaged(folder: Path) -> list[str]:
    """Every file of a folder that cannot be read, with what to do. Reads all of them."""
    faults = []
    for path in files_of(folder):
        try:
            read_parquet(path)
        except FileNotFoundError:  # folded meanwhile
            continue
        except StoreError as exc:
            faults.append(str(exc))
    return faults


def _batches(folder: Path, min_files: int, part_bytes: int, faults: list[str]) -> Iterator[Mapping[Path, pa.Table]]:
    """The singles of a folder, as many at a time as fill a part; too few at the end are left."""
    batch: dict[Path, pa.Table] = {}
    size = 0
    for path in singles_of(folder):
        try:
            table = read_parquet(path)
        except FileNotFoundError:  # folded by another machine
            continue
        except StoreError as exc:
            faults.append(str(exc))
            continue
        batch[path] = table
        size += table.nbytes
        if size >= part_bytes:
            yield batch
            batch, size = {}, 0
    if len(batch) >= min_files:
        yield batch


def _write_part(store: Store, folder: Path, singles: Mapping[Path, pa.Table]) -> None:
    """Write a part and read it back.

    Raises:
        StoreError: it reads otherwise than it was written, or cannot be read; it is deleted again.
    """
    mark_current(store.root)  # before the first part, of which an earlier fute would see nothing
    table = pa.concat_tables(singles.values(), promote_options="default")  # null where an older file lacks a column
    if "fingerprint" in table.column_names:
        table = table.sort_by("fingerprint")  # so that the bounds of a row group say which embeddings are in it
    table = table.combine_chunks()
    # By its singles, so that the same ones make the same part: after a fold that was killed, or on another machine.
    part = folder / FOLDED / f"{fingerprint_texts([[path.stem for path in singles]])}.parquet"
    rows_a_group = max(64, GROUP_BYTES * len(table) // max(table.nbytes, 1))
    write_parquet(store.scratch, part, table, row_group_size=rows_a_group)
    try:
        if len(read_parquet(part)) != len(table):  # each page was compared with its checksum
            raise StoreError(f"{part} reads otherwise than it was written; its singles are kept. Check the disk")
    except StoreError:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """The lock of a folder, or False where another process or thread has it. It only saves them doing all twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
