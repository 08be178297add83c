"""Folding many small files of a folder into larger ones, and later removing what was folded.

Both may be killed at any moment and run beside any number of readers and writers; one folder is folded by one process
at a time (storage/turns.py). What is folded stays where it is for a while (`remove_folded`, `grace_s`), for who has
just listed the folder is about to read it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fute.errors import StoreError
from fute.fingerprint import fingerprint_texts
from storage import schemas
from storage.files import read_parquet, remove_file, write_file, write_parquet
from storage.folded_embeddings import USED, FoldedEmbeddings, group_rows
from storage.folding import FOLDED, PARQUET, REPLACES, files_of
from storage.schema_version import mark_current
from storage.standing import ReadThrough, Standing, check_keys, embedding_keys, run_keys
from storage.store import Store
from storage.turns import Turn, folding_alone

logger = logging.getLogger(__name__)

PART_BYTES = 128 * 2**20
"""Of vectors in one folded file; folding holds about three times as much in memory."""

MIN_FILES = 16
"""Fewer small files than this are left as they are: each folding writes the last part anew."""

GRACE_S = 300.0
"""How long folded files are kept for readers that have listed them."""

SETTLED_S = 24 * 3600
"""A run's record is written again when its flow run is retried; one that is older than this is not."""

ROW_BYTES = 500  # of an embedding beside its vector, about
RECORDS_IN_A_PART = 100_000  # of what has no vector
REMOVED_AT_ONCE = 500  # files between two renewals of the turn: on object storage each is a request


@dataclass
class Folded:
    """What was done to one folder.

    Attributes:
        folder: relative to the store.
        files: small files (and small parts) that were folded now.
        rows: in the parts that were written now.
        parts: written now.
        removed: files deleted, which had been folded before.
        waiting: folded files that are still kept for readers.
        faults: files that could not be read, and are left as they are, with the reason.
    """

    folder: str
    files: int = 0
    rows: int = 0
    parts: int = 0
    removed: int = 0
    waiting: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Kind:
    """A kind of folder that is folded.

    Attributes:
        glob: of the folders, below the store.
        settled_s: files that changed later than this many seconds ago are left alone.
        conform: brings one file's table to the columns of today.
        keys: what tells the rows of a table apart, and a time beside it.
        columns: of which the keys are made.
        ordered: puts the rows of a part in order.
        latest: of rows with the same key the one with the latest time counts; otherwise they are the same but for that
            time, their last use, which is kept.
    """

    glob: str
    settled_s: float
    conform: Callable[[pa.Table, Path], pa.Table]
    keys: Callable[[pa.Table], pa.Table]
    columns: tuple[str, ...]
    ordered: Callable[[pa.Table], pa.Table] = lambda table: table
    latest: bool = True


def _embedding(table: pa.Table, path: Path) -> pa.Table:
    dim = table["vector"].type.list_size
    own = [path.stat().st_mtime_ns] * len(table)
    used = table[USED] if USED in table.column_names else pa.array(own, pa.int64())
    table = table.drop_columns([USED] if USED in table.column_names else [])
    return _conform(table, schemas.embeddings(dim)).append_column(USED, used)


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """With nulls for columns that the file was written before.

    Raises:
        StoreError: it has columns that this fute does not know, and would lose them.
    """
    if unknown := sorted(set(table.column_names) - set(schema.names)):
        raise StoreError(f"it has columns that this fute does not know ({', '.join(unknown)}); fold with a later fute")
    missing = [f for f in schema if f.name not in table.column_names]
    for column in missing:
        table = table.append_column(column, pa.nulls(len(table), column.type))
    return table.select(schema.names).cast(schema)


KINDS = (
    Kind(
        "embeddings/space=*/kind=*", 0.0, _embedding, embedding_keys, ("fingerprint", USED),
        lambda table: table.sort_by("fingerprint"), latest=False,
    ),
    Kind(
        "runs", SETTLED_S, lambda table, _: _conform(table, schemas.RUNS), run_keys, ("flow_run_id", "created_at"),
    ),
    Kind(
        "drift/checks/*", SETTLED_S, lambda table, _: _conform(table, schemas.DRIFT), check_keys,
        ("model_ref", "created_at"),
    ),
)  # fmt: skip


def folders(store: Store) -> list[tuple[Path, Kind]]:
    """Every folder that can be folded."""
    return [(path, kind) for kind in KINDS for path in sorted(store.root.glob(kind.glob)) if path.is_dir()]


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
            read[path] = _keys(path, kind)
        except (pa.ArrowException, OSError, KeyError) as exc:
            done.faults.append(_damaged(store, path, exc))
    return read


def _damaged(store: Store, part: Path, fault: object) -> str:
    return (
        f"{part.relative_to(store.root)}: {fault}; it is damaged: put back a copy of it, "
        f"or delete it and its {REPLACES} file, and run the study and the maintenance again"
    )


def _keys(path: Path, kind: Kind) -> pa.Table:
    table = pq.read_table(path, columns=list(kind.columns), partitioning=None)
    if USED in kind.columns and USED not in table.column_names:  # a small file: its own time tells it
        table = table.append_column(USED, pa.nulls(len(table), pa.int64()))
    return kind.keys(table)


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
                read[path] = _keys(path, kind)
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
        part = self.folder / FOLDED / f"{fingerprint_texts([_names(self.folder, paths)])}{PARQUET}"
        self._write_list(part, paths)
        table = self.kind.ordered(table)
        write_parquet(self.store.scratch, part, table, row_group_size=group_rows(table))
        self.known[part] = _keys(part, self.kind)
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
        _write_list(self.store, self.folder, part, paths)
        self.waiting[part] = paths


def _write_list(store: Store, folder: Path, part: Path, paths: Sequence[Path]) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text("\n".join(_names(folder, paths)) + "\n", encoding="utf-8")

    write_file(store.scratch, part.with_suffix(REPLACES), write)


def _names(folder: Path, paths: Sequence[Path]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def remove_folded(store: Store, folder: Path, done: Folded, grace_s: float = GRACE_S) -> Folded:
    """Delete what was folded at least `grace_s` seconds ago, once its part has been read from end to end."""
    if not any((folder / FOLDED).glob(f"*{REPLACES}")):  # a turn costs requests
        return done
    kind = next(kind for kind in KINDS if folder.relative_to(store.root).match(kind.glob))
    with folding_alone(store, done.folder) as turn:
        if turn is None:
            return done
        store.pull()  # a part that was deleted on another machine, as damaged, stands for nothing any more
        files = files_of(folder)
        standing = Standing(files.parts, lambda part: _keys(part, kind), timed=kind.latest)
        for part, replaced in files.replaced.items():
            try:
                age = time.time() - max(path.stat().st_mtime for path in (part, part.with_suffix(REPLACES)))
            except FileNotFoundError:  # itself folded into a larger one, and removed just now
                continue
            if age < grace_s:
                done.waiting += len(replaced)
                continue
            if fault := standing.fault(part):
                done.faults.append(
                    f"{part.relative_to(store.root)}: {fault}; it is damaged, and what it was made of is still there: "
                    f"delete it and its {REPLACES} file, and run the maintenance again"
                )
                continue
            _Removal(store, folder, kind, part, standing, turn, done).remove(replaced)
        _remove_lists_without_part(folder)
    return done


@dataclass
class _Removal:
    """Removal of what one part has replaced."""

    store: Store
    folder: Path
    kind: Kind
    part: Path
    standing: Standing
    turn: Turn
    done: Folded

    def remove(self, replaced: Sequence[Path]) -> None:
        used = {} if self.kind.latest else _times_of_use(self.part)
        kept: list[Path] = []
        freed = False
        for begin in range(0, max(len(replaced), 1), REMOVED_AT_ONCE):
            self.turn.renew()
            some = [path for path in replaced[begin : begin + REMOVED_AT_ONCE] if path.exists()]
            held, anew = self._held(some)
            freed = freed or bool(anew)
            kept += [path for path in some if path not in anew and not self._remove(path, used, held=path in held)]
        if not kept:
            remove_file(self.part.with_suffix(REPLACES))
        elif freed:
            _write_list(self.store, self.folder, self.part, kept)

    def _held(self, paths: Sequence[Path]) -> tuple[set[Path], set[Path]]:
        """Those all of whose rows stand in parts that count; and records that were written again, which count anew."""
        named: dict[Path, pa.Table] = {}
        if not self.kind.latest:  # an embedding's file has its name: thousands need not be opened
            named = {path: _one_key(path) for path in paths if path.parent.name != FOLDED}
        held = self.standing.whole(named, self.part)
        read = {}
        for path in paths:
            if path not in held:
                with suppress(pa.ArrowException, OSError, KeyError):
                    read[path] = _keys(path, self.kind)
        held |= self.standing.whole(read, self.part)
        anew = {path for path in read if self.kind.latest and path.parent.name != FOLDED} - held
        return held, anew

    def _remove(self, path: Path, used: Mapping[str, int], *, held: bool) -> bool:
        """Remove one file; False: it is kept, and hidden still."""
        try:
            changed_ns = path.stat().st_mtime_ns
            if not held:
                raise StoreError("not all of it stands in another file; it is kept")
            if changed_ns > used.get(path.stem, changed_ns):  # used between the folding and now
                FoldedEmbeddings(self.folder, self.store.scratch).was_used(path.stem, changed_ns)
        except FileNotFoundError:
            return True
        except StoreError as exc:
            self.done.faults.append(f"{path.relative_to(self.store.root)}: {exc}")
            return False
        remove_file(path)
        if path.parent.name == FOLDED:  # what it had replaced is replaced by this part as well
            remove_file(path.with_suffix(REPLACES))
        self.done.removed += 1
        return True


def _one_key(path: Path) -> pa.Table:
    return pa.table({"key": [path.stem], "time": [0]})


def _times_of_use(part: Path) -> dict[str, int]:
    """By fingerprint."""
    table = pq.read_table(part, columns=["fingerprint", USED], partitioning=None)
    return dict(zip(table["fingerprint"].to_pylist(), table[USED].to_pylist(), strict=True))


def _remove_lists_without_part(folder: Path) -> None:
    """What a folding left that was killed between its two steps, or a removal at its last one."""
    for path in (folder / FOLDED).glob(f"*{REPLACES}"):
        if not path.with_suffix(PARQUET).exists() and time.time() - path.stat().st_mtime > GRACE_S:
            remove_file(path)
