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
from storage.store import Store
from storage.turns import folding_alone

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
        ordered: puts the rows of a part in order.
        key: column that tells rows apart, beside which `used_ns` says when they were used last; None where every file
            is a record of its own.
    """

    glob: str
    settled_s: float
    conform: Callable[[pa.Table, Path], pa.Table]
    ordered: Callable[[pa.Table], pa.Table] = lambda table: table
    key: str | None = None


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
    Kind("embeddings/space=*/kind=*", 0.0, _embedding, lambda table: table.sort_by("fingerprint"), "fingerprint"),
    Kind("runs", SETTLED_S, lambda table, _: _conform(table, schemas.RUNS)),
    Kind("drift/checks/*", SETTLED_S, lambda table, _: _conform(table, schemas.DRIFT)),
)


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
    doubled = kind.key is not None and _holds_doubles([*parts.values(), _named(small)])
    again = [path for path, keys in parts.items() if 2 * len(keys) <= room]
    if len(small) + len(again) < min_files and not doubled:
        return None
    known = {path: keys for path, keys in parts.items() if path not in again}
    if doubled:
        again += _with_rows_of_others(known)
    rows = {path: len(parts[path]) if path in parts else 1 for path in (*again, *small)}
    return list(_batches(rows, room)), _Batch(store, folder, kind, known, dict(files.replaced), done)


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
        except (pa.ArrowException, OSError) as exc:
            done.faults.append(
                f"{path.relative_to(store.root)}: {exc}; it is damaged: put back a copy of it, "
                f"or delete it and its {REPLACES} file, and run the study and the maintenance again"
            )
    return read


def _keys(part: Path, kind: Kind) -> pa.Table:
    columns = [] if kind.key is None else [kind.key, USED]
    return pq.read_table(part, columns=columns, partitioning=None)


def _named(small: Sequence[Path]) -> pa.Table:
    """A small file of one record has its key as its name."""
    return pa.table({"name": pa.array([path.stem for path in small], pa.string())})


def _holds_doubles(tables: Sequence[pa.Table]) -> bool:
    keys = pa.chunked_array([chunk for table in tables for chunk in table[0].chunks], pa.string())
    return len(pc.unique(keys)) < len(keys)


def _with_rows_of_others(known: dict[Path, pa.Table]) -> list[Path]:
    """Take those out that hold rows of one before them; by name, so that every machine would take the same."""
    taken = []
    for path in sorted(known):
        before = [keys for other, keys in known.items() if other < path]
        if any(pc.any(pc.is_in(known[path][0], value_set=keys[0])).as_py() for keys in before):
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
    """

    store: Store
    folder: Path
    kind: Kind
    known: dict[Path, pa.Table]
    waiting: dict[Path, Sequence[Path]]
    done: Folded

    def fold(self, batch: Sequence[Path]) -> None:
        whole = self._of_one_schema(self._read(batch))
        if not whole:
            return
        table = pa.concat_tables(list(whole.values())).combine_chunks()
        every, elsewhere = len(table), dict[str, Path]()
        if self.kind.key is not None:
            table, elsewhere = self._once(table, self.kind.key)
        if len(whole) < 2 and len(table) == every:
            return
        self.done.files += len(whole)
        if not len(table):
            for path, rows in whole.items():
                self._hide(path, behind=elsewhere[rows[str(self.kind.key)][0].as_py()])
            return
        # With what a part had replaced and still lies there: it is now replaced by the new one.
        paths = [replaced for path in whole for replaced in (path, *self.waiting.get(path, ()))]
        # By what it replaces, so that folding the same files again, here or on another machine, makes the same part.
        part = self.folder / FOLDED / f"{fingerprint_texts([self._names(paths)])}{PARQUET}"
        self._write_list(part, paths)
        table = self.kind.ordered(table)
        write_parquet(self.store.scratch, part, table, row_group_size=group_rows(table))
        self.known[part] = _keys(part, self.kind)
        self.done.rows += len(table)
        self.done.parts += 1

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

    def _once(self, table: pa.Table, key: str) -> tuple[pa.Table, dict[str, Path]]:
        """Without rows that are there already: two writers that raced may have written one embedding twice.

        The time at which it was used last is kept.

        Returns:
            The rows, and in which other parts those are that were left out.
        """
        elsewhere: dict[str, Path] = {}
        used = dict.fromkeys(table[key].to_pylist(), 0)
        for row, ns in zip(table[key].to_pylist(), table[USED].to_pylist(), strict=True):
            used[row] = max(used[row], ns)
        embeddings = FoldedEmbeddings(self.folder, self.store.scratch)
        for part, keys in self.known.items():
            here = keys.filter(pc.is_in(keys[key], value_set=table[key].combine_chunks()))
            for row, ns in zip(here[key].to_pylist(), here[USED].to_pylist(), strict=True):
                elsewhere[row] = part
                if used[row] > ns:
                    embeddings.was_used(row, used[row])
        seen = set(elsewhere)
        keep = []
        for row in table[key].to_pylist():
            keep.append(row not in seen)
            seen.add(row)
        table = table.filter(pa.array(keep))
        latest = pa.array([used[row] for row in table[key].to_pylist()], pa.int64())
        return table.set_column(table.column_names.index(USED), USED, latest), elsewhere

    def _hide(self, path: Path, behind: Path) -> None:
        """A file all of whose rows stand in other parts: it is not read any more, and removed as what they replaced."""
        self._write_list(behind, [*self.waiting.get(behind, ()), path, *self.waiting.get(path, ())])

    def _write_list(self, part: Path, paths: Sequence[Path]) -> None:
        def write(temporary: Path) -> None:
            temporary.write_text("\n".join(self._names(paths)) + "\n", encoding="utf-8")

        write_file(self.store.scratch, part.with_suffix(REPLACES), write)
        self.waiting[part] = paths

    def _names(self, paths: Sequence[Path]) -> list[str]:
        return [path.relative_to(self.folder).as_posix() for path in paths]


def remove_folded(store: Store, folder: Path, done: Folded, grace_s: float = GRACE_S) -> Folded:
    """Delete what was folded at least `grace_s` seconds ago, once its part has been read from end to end."""
    if not any((folder / FOLDED).glob(f"*{REPLACES}")):  # a turn costs requests
        return done
    with folding_alone(store, done.folder) as turn:
        if turn is None:
            return done
        store.pull()  # a part that was deleted on another machine, as damaged, stands for nothing any more
        files = files_of(folder)
        live = _fingerprints(files.parts) if files.replaced else pa.array([], pa.string())
        for part, replaced in files.replaced.items():
            try:
                age = time.time() - max(path.stat().st_mtime for path in (part, part.with_suffix(REPLACES)))
            except FileNotFoundError:  # itself folded into a larger one, and removed just now
                continue
            if age < grace_s:
                done.waiting += len(replaced)
                continue
            turn.renew()
            try:
                _read_through(part)
            except (pa.ArrowException, OSError) as exc:
                done.faults.append(
                    f"{part.relative_to(store.root)}: {exc}; it is damaged, and what it was made of is still there: "
                    f"delete it and its {REPLACES} file, and run the maintenance again"
                )
                continue
            _remove(store, folder, part, replaced, live, done)
        _remove_lists_without_part(folder)
    return done


def _fingerprints(parts: Sequence[Path]) -> pa.ChunkedArray:
    """Of all embeddings in some files; none of files that cannot be read, or hold something else."""
    found: list[pa.Array] = []
    for part in parts:
        with suppress(pa.ArrowException, OSError):
            if "fingerprint" in pq.read_schema(part).names:
                found += pq.read_table(part, columns=["fingerprint"], partitioning=None)["fingerprint"].chunks
    return pa.chunked_array(found, pa.string())


def _read_through(part: Path) -> None:
    file = pq.ParquetFile(part)
    for group in range(file.num_row_groups):
        file.read_row_group(group)


def _remove(
    store: Store, folder: Path, part: Path, replaced: Sequence[Path], live: pa.ChunkedArray, done: Folded
) -> None:
    used = _times_of_use(part)
    embeddings = FoldedEmbeddings(folder, store.scratch)
    stems = pa.array([path.stem for path in replaced if path.parent.name != FOLDED], pa.string())
    named = set(stems.filter(pc.is_in(stems, value_set=live)).to_pylist())
    kept = False
    for path in replaced:
        try:
            changed_ns = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
        if used is not None and path.stem not in named and not _stands_in(live, path):
            done.faults.append(f"{path.relative_to(store.root)}: not all of it stands in another file; it is kept")
            kept = True
            continue
        if used is not None and changed_ns > used.get(path.stem, changed_ns):  # used between the folding and now
            embeddings.was_used(path.stem, changed_ns)
        remove_file(path)
        if path.parent.name == FOLDED:  # what it had replaced is replaced by this part as well
            remove_file(path.with_suffix(REPLACES))
        done.removed += 1
    if not kept:
        remove_file(part.with_suffix(REPLACES))


def _stands_in(live: pa.ChunkedArray, path: Path) -> bool:
    """Whether all embeddings of a file are among others, by fingerprint."""
    own = _fingerprints([path])
    return len(own) > 0 and pc.all(pc.is_in(own, value_set=live)).as_py()


def _times_of_use(part: Path) -> dict[str, int] | None:
    """By fingerprint; None for what is no embedding."""
    if USED not in pq.read_schema(part).names:
        return None
    table = pq.read_table(part, columns=["fingerprint", USED], partitioning=None)
    return dict(zip(table["fingerprint"].to_pylist(), table[USED].to_pylist(), strict=True))


def _remove_lists_without_part(folder: Path) -> None:
    """What a folding left that was killed between its two steps, or a removal at its last one."""
    for path in (folder / FOLDED).glob(f"*{REPLACES}"):
        if not path.with_suffix(PARQUET).exists() and time.time() - path.stat().st_mtime > GRACE_S:
            remove_file(path)
