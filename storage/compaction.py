"""Folding many small files of a folder into larger ones. What was folded is removed later (storage/removal.py).

Both may be killed at any moment and run beside any number of readers and writers; one folder is folded by one process
at a time (storage/turns.py).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fute.errors import StoreError
from fute.fingerprint import fingerprint_texts
from storage.files import read_parquet, write_parquet
from storage.fold_kinds import Folded, Kind, read_keys
from storage.folded_embeddings import USED, FoldedEmbeddings, group_rows
from storage.folding import FOLDED, PARQUET, REPLACES, files_of, names_in, write_list
from storage.schema_version import mark_current
from storage.standing import ReadThrough
from storage.store import Store
from storage.turns import folding_alone

logger = logging.getLogger(__name__)

PART_BYTES = 128 * 2**20
"""Of vectors in one folded file; folding holds about three times as much in memory."""

MIN_FILES = 16
"""Fewer small files than this are left as they are: each folding writes the last part anew."""

ROW_BYTES = 500  # of an embedding beside its vector, about
RECORDS_IN_A_PART = 100_000  # of what has no vector


def fold(store: Store, folder: Path, kind: Kind, *, part_bytes: int = PART_BYTES, min_files: int = MIN_FILES) -> Folded:
    """Fold the small files of one folder. What was folded stays there, unread, until `remove_folded`.

    Records that stand in two files, since two writers raced, are brought into one, however few files there are.
    """

    def planned(done: Folded) -> tuple[list[list[Path]], _Batch] | None:
        return _plan(store, folder, kind, done, part_bytes=part_bytes, min_files=min_files)

    def begun() -> Folded:
        return Folded(folder.relative_to(store.root).as_posix())

    done = begun()
    # A turn costs requests, and most folders have nothing to fold.
    if store.mirror is not None and planned(done) is None:
        return done
    done = begun()
    with folding_alone(store, done.folder) as turn:
        if turn is None:
            done.faults.append(f"{done.folder}: another process is folding it, or another machine")
            return done
        store.pull()  # what another machine has folded meanwhile
        if (plan := planned(done)) is None:
            return done
        mark_current(store.root)  # before the first part: an earlier fute would see nothing of it
        batches, into = plan
        for batch in batches:
            turn.renew()
            into.fold(batch)
    return done


def _plan(
    store: Store, folder: Path, kind: Kind, done: Folded, *, part_bytes: int, min_files: int
) -> tuple[list[list[Path]], _Batch] | None:
    """What is to be folded together, and into what; None: nothing."""
    files = files_of(folder)
    parts = _read_parts(store, files.parts, kind, done)
    small = _settled(files.singles, kind.settled_s)
    room = _rows_in_a_part([*parts, *small], part_bytes)
    doubled = _holds_doubles([*parts.values(), _named(small)])
    again = [path for path, keys in parts.items() if 2 * len(keys) <= room]
    if len(small) + len(again) < min_files and not doubled:
        return None
    latest = _latest({**parts, **_written_again(small, parts, kind)}) if kind.latest and doubled else {}
    known = {path: keys for path, keys in parts.items() if path not in again}
    if doubled:
        again += _with_earlier_rows(known, latest)
        again += _with_rows_of_others(known)
    rows = {path: len(parts[path]) if path in parts else 1 for path in (*again, *small)}
    return list(_batches(rows, room)), _Batch(store, folder, kind, known, dict(files.replaced), done, latest)


def _settled(paths: Sequence[Path], settled_s: float) -> list[Path]:
    if not settled_s:
        return list(paths)
    return [path for path in paths if time.time() - path.stat().st_mtime > settled_s]


def _read_parts(store: Store, parts: Sequence[Path], kind: Kind, done: Folded) -> dict[Path, pa.Table]:
    """What tells the rows of each part apart, and when they were used; those that cannot be read are told and left."""
    read = {}
    for path in parts:
        try:
            read[path] = read_keys(path, kind)
        except (pa.ArrowException, OSError, KeyError) as exc:
            done.faults.append(_damaged(store, path, exc))
    return read


def _damaged(store: Store, part: Path, fault: object) -> str:
    return (
        f"{part.relative_to(store.root)}: {fault}; it is damaged: put back a copy of it, "
        f"or delete it and its {REPLACES} file, and run the study and the maintenance again"
    )


def _named(small: Sequence[Path]) -> pa.Table:
    """A small file of one record has its key as its name."""
    return pa.table({"name": pa.array([path.stem for path in small], pa.string())})


def _holds_doubles(tables: Sequence[pa.Table]) -> bool:
    keys = pa.chunked_array([chunk for table in tables for chunk in table[0].chunks], pa.string())
    return len(pc.unique(keys)) < len(keys)


def _written_again(small: Sequence[Path], parts: Mapping[Path, pa.Table], kind: Kind) -> dict[Path, pa.Table]:
    """Those small files whose names stand in parts, with their keys."""
    folded = pa.chunked_array([chunk for keys in parts.values() for chunk in keys["key"].chunks], pa.string())
    names = _named(small)["name"]
    read = {}
    for name_is_folded, path in zip(pc.is_in(names, value_set=folded).to_pylist(), small, strict=True):
        if name_is_folded:
            with suppress(pa.ArrowException, OSError, KeyError):  # told when it is folded
                read[path] = read_keys(path, kind)
    return read


def _latest(files: Mapping[Path, pa.Table]) -> dict[str, tuple[int, Path]]:
    """Of each key that is there several times the latest time, and in which file."""
    counts = pa.concat_tables(list(files.values())).group_by("key").aggregate([("time", "count")])
    several = counts.filter(pc.greater(counts["time_count"], 1))["key"].combine_chunks()
    latest: dict[str, tuple[int, Path]] = {}
    for path, keys in files.items():
        for key, time_ in _pairs(keys.filter(pc.is_in(keys["key"], value_set=several))):
            latest[key] = max(latest.get(key, (0, path)), (time_, path))
    return latest


def _with_earlier_rows(known: dict[Path, pa.Table], latest: Mapping[str, tuple[int, Path]]) -> list[Path]:
    """Take those out that hold a row of which there is a later one."""
    several = pa.array(list(latest), pa.string())
    taken = []
    for path, keys in list(known.items()):
        rows = keys.filter(pc.is_in(keys["key"], value_set=several))
        if any(latest[key][0] > time_ for key, time_ in _pairs(rows)):
            del known[path]
            taken.append(path)
    return taken


def _pairs(keys: pa.Table) -> list[tuple[str, int]]:
    return list(zip(keys["key"].to_pylist(), keys["time"].to_pylist(), strict=True))


def _with_rows_of_others(known: dict[Path, pa.Table]) -> list[Path]:
    """Take those out that hold rows of one before them, or one twice; by name, so that every machine takes the same."""
    taken = []
    for path in sorted(known):
        before = [keys for other, keys in known.items() if other < path]
        twice = _holds_doubles([known[path]])
        if twice or any(pc.any(pc.is_in(known[path][0], value_set=keys[0])).as_py() for keys in before):
            del known[path]
            taken.append(path)
    return taken


def _rows_in_a_part(paths: Sequence[Path], part_bytes: int) -> int:
    """As many as fill a part with vectors like these; of other records, a fixed number."""
    for path in paths:
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError):  # damaged: told when it is read
            continue
        if "vector" in schema.names and pa.types.is_fixed_size_list(schema.field("vector").type):
            return max(1, part_bytes // (4 * schema.field("vector").type.list_size + ROW_BYTES))
        break
    return RECORDS_IN_A_PART


def _batches(sizes: Mapping[Path, int], room: int) -> Iterator[list[Path]]:
    """In order, each of at most `room` rows. A small file counts as one row, and has not many."""
    batch: list[Path] = []
    rows = 0
    for path, size in sizes.items():
        if batch and rows + size > room:
            yield batch
            batch, rows = [], 0
        batch.append(path)
        rows += size
    if batch:
        yield batch


@dataclass
class _Batch:
    """Folding of several files into one part.

    Attributes:
        known: the parts that stay, with what tells their rows apart.
        waiting: what parts have replaced and still lies there.
        latest: of each key that is there several times, the time of the row that counts, and its file.
    """

    store: Store
    folder: Path
    kind: Kind
    known: dict[Path, pa.Table]
    waiting: dict[Path, Sequence[Path]]
    done: Folded
    latest: dict[str, tuple[int, Path]]
    through: ReadThrough = field(default_factory=ReadThrough)

    def fold(self, batch: Sequence[Path]) -> None:
        whole = self._of_one_schema(self._read(batch))
        if not whole:
            return
        table = pa.concat_tables(list(whole.values())).combine_chunks()
        every = len(table)
        table, elsewhere = self._once(table)
        if len(whole) < 2 and len(table) == every and not self._is_awaited(next(iter(whole)), table):
            return
        if not len(table):
            for path, rows in whole.items():
                # One whose later row is still to be folded is left for the next time.
                if behind := elsewhere.get(self.kind.keys(rows)["key"][0].as_py()):
                    self._hide(path, behind)
                    self.done.files += 1
            return
        self.done.files += len(whole)
        # With what a part had replaced and still lies there: it is now replaced by the new one.
        paths = [replaced for path in whole for replaced in (path, *self.waiting.get(path, ()))]
        # By what it replaces, so that folding the same files again, here or on another machine, makes the same part.
        part = self.folder / FOLDED / f"{fingerprint_texts([names_in(self.folder, paths)])}{PARQUET}"
        self._write_list(part, paths)
        table = self.kind.ordered(table)
        write_parquet(self.store.scratch, part, table, row_group_size=group_rows(table))
        self.known[part] = read_keys(part, self.kind)
        self.done.rows += len(table)
        self.done.parts += 1

    def _is_awaited(self, path: Path, table: pa.Table) -> bool:
        """Whether a small file is folded though by itself: an earlier row was left out of a part for one in it."""
        return path.parent.name != FOLDED and any(key in self.latest for key, _ in _pairs(self.kind.keys(table)))

    def _read(self, batch: Sequence[Path]) -> dict[Path, pa.Table]:
        def read(path: Path) -> pa.Table | str:
            try:
                return self.kind.conform(read_parquet(path), path)
            except (StoreError, pa.ArrowException, AttributeError, KeyError) as exc:
                return str(exc)

        with ThreadPoolExecutor(4) as pool:
            found = dict(zip(batch, pool.map(read, batch), strict=True))
        for path, fault in found.items():
            if isinstance(fault, str):
                self._leave(path, fault)
        return {path: table for path, table in found.items() if isinstance(table, pa.Table) and len(table)}

    def _of_one_schema(self, tables: dict[Path, pa.Table]) -> dict[Path, pa.Table]:
        """A space has one length of vectors; what has another is foreign, and does not fit into the same file."""
        rows: Counter[pa.Schema] = Counter()
        for table in tables.values():
            rows[table.schema] += len(table)
        usual = max(rows, key=lambda schema: rows[schema], default=pa.schema([]))
        for path, table in tables.items():
            if table.schema != usual:
                own, others = (schema.field("vector").type.list_size for schema in (table.schema, usual))
                self._leave(path, f"its vectors have {own} numbers, and most here {others}; move it out of the store")
        return {path: table for path, table in tables.items() if table.schema == usual}

    def _leave(self, path: Path, fault: str) -> None:
        logger.warning("not folded: %s: %s", path, fault)
        self.done.faults.append(f"{path.relative_to(self.store.root)}: {fault}")

    def _once(self, table: pa.Table) -> tuple[pa.Table, dict[str, Path]]:
        """Without rows that are there already: two that raced may have written or folded the same twice.

        Of embeddings the time of last use is kept; of records only the latest is.

        Returns:
            The rows, and in which other parts those are that were left out.
        """
        own = self.kind.keys(table)
        rows = _pairs(own)
        last: dict[str, int] = {}
        for key, time_ in rows:
            later, path = self.latest.get(key, (0, Path()))
            # For a later row this one is left out, so it must be there indeed.
            known = later if later > time_ and self.through.fault(path) is None else 0
            last[key] = max(last.get(key, 0), time_, known)
        elsewhere = self._elsewhere(own, last)
        seen = set(elsewhere)
        keep = []
        for key, time_ in rows:
            keep.append(key not in seen and (not self.kind.latest or time_ == last[key]))
            if keep[-1]:
                seen.add(key)
        table = table.filter(pa.array(keep, pa.bool_()))
        if not self.kind.latest:
            used = pa.array([last[key] for (key, _), kept in zip(rows, keep, strict=True) if kept], pa.int64())
            table = table.set_column(table.column_names.index(USED), USED, used)
        return table, elsewhere

    def _elsewhere(self, own: pa.Table, last: Mapping[str, int]) -> dict[str, Path]:
        """Which rows are left to other parts; to none that is damaged, for they may be the only ones."""
        found: dict[str, Path] = {}
        embeddings = FoldedEmbeddings(self.folder, self.store.scratch)
        for part, keys in list(self.known.items()):
            here = keys.filter(pc.is_in(keys["key"], value_set=own["key"].combine_chunks()))
            if not len(here):
                continue
            if fault := self.through.fault(part):
                self.done.faults.append(_damaged(self.store, part, fault))
                del self.known[part]
                continue
            for key, time_ in _pairs(here):
                if time_ < last[key]:
                    if self.kind.latest:
                        continue
                    try:
                        embeddings.was_used(key, last[key])
                    except StoreError as exc:  # another part is damaged: these rows are kept here, with their times
                        self.done.faults.append(str(exc))
                        break
                found[key] = part
        return found

    def _hide(self, path: Path, behind: Path) -> None:
        """A file all of whose rows stand in other parts: it is not read any more, and removed as what they replaced."""
        self._write_list(behind, [*self.waiting.get(behind, ()), path, *self.waiting.get(path, ())])

    def _write_list(self, part: Path, paths: Sequence[Path]) -> None:
        write_list(self.store.scratch, self.folder, part, paths)
        self.waiting[part] = paths
