"""Folding many small files of a folder into larger ones, and later removing what was folded.

Both may be killed at any moment and run beside any number of readers and writers; one folder is folded by one process
at a time. What is folded stays where it is for a while (`remove_folded`, `grace_s`), for who has just listed the folder
is about to read it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fute.errors import StoreError
from fute.fingerprint import fingerprint_texts
from storage import schemas
from storage.claims import claims_at
from storage.files import read_parquet, remove_file, write_file, write_parquet
from storage.folded_embeddings import USED, FoldedEmbeddings, group_rows
from storage.folding import FOLDED, PARQUET, REPLACES, files_of
from storage.schema_version import mark_current
from storage.store import Store

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
        key: column that tells rows apart; None where every file is a record of its own.
    """

    glob: str
    settled_s: float
    conform: Callable[[pa.Table, Path], pa.Table]
    ordered: Callable[[pa.Table], pa.Table] = lambda table: table
    key: str | None = None


def _embedding(table: pa.Table, path: Path) -> pa.Table:
    dim = table["vector"].type.list_size
    used = table[USED] if USED in table.column_names else pa.array([path.stat().st_mtime_ns] * len(table), pa.int64())
    return _conform(table, schemas.embeddings(dim)).append_column(USED, used)


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """With nulls for columns that the file was written before."""
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
    """Fold the small files of one folder. What was folded stays there, unread, until `remove_folded`."""
    done = Folded(folder.relative_to(store.root).as_posix())
    claims, claim = claims_at(store.root / "maintenance.claims"), f"fold {done.folder}"
    if not claims.claim(claim):
        done.faults.append(f"{done.folder}: another process is folding it")
        return done
    try:
        files = files_of(folder)
        small = _settled(files.singles, kind.settled_s)
        room = _rows_in_a_part([*files.parts, *small], part_bytes)
        small_parts = [part for part in files.parts if 2 * pq.read_metadata(part).num_rows <= room]
        if len(small) + len(small_parts) < min_files:
            return done
        mark_current(store.root)  # before the first part: an earlier fute would see nothing of it
        known = set(files.parts) - set(small_parts)
        for batch in _batches([*small_parts, *small], room):
            _fold_batch(store, folder, kind, batch, files.replaced, known, done)
    finally:
        claims.release(claim)
    return done


def _settled(paths: Sequence[Path], settled_s: float) -> list[Path]:
    if not settled_s:
        return list(paths)
    return [path for path in paths if time.time() - path.stat().st_mtime > settled_s]


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


def _batches(paths: Sequence[Path], room: int) -> Iterator[list[Path]]:
    """In order, each of at most `room` rows. A small file is one row, or not many."""
    batch: list[Path] = []
    rows = 0
    for path in paths:
        size = pq.read_metadata(path).num_rows if path.parent.name == FOLDED else 1
        if batch and rows + size > room:
            yield batch
            batch, rows = [], 0
        batch.append(path)
        rows += size
    if batch:
        yield batch


def _fold_batch(
    store: Store,
    folder: Path,
    kind: Kind,
    batch: list[Path],
    waiting: Mapping[Path, Sequence[Path]],
    known: set[Path],
    done: Folded,
) -> None:
    def read(path: Path) -> pa.Table | str:
        try:
            return kind.conform(read_parquet(path), path)
        except (StoreError, pa.ArrowException, AttributeError, KeyError) as exc:
            return f"{path.relative_to(store.root)}: {exc}"

    with ThreadPoolExecutor(4) as pool:
        read_now = list(pool.map(read, batch))
    for fault in (found for found in read_now if isinstance(found, str)):
        logger.warning("not folded: %s", fault)
        done.faults.append(fault)
    whole = [(p, table) for p, table in zip(batch, read_now, strict=True) if isinstance(table, pa.Table)]
    # A space has one length of vectors; what has another is foreign, and does not fit into the same file.
    schema = whole[0][1].schema if whole else None
    for path, table in whole:
        if not table.schema.equals(schema):
            done.faults.append(f"{path.relative_to(store.root)}: its vectors are of another length than the others'")
    whole = [(path, table) for path, table in whole if table.schema.equals(schema)]
    if len(whole) < 2:
        return
    # With what a part had replaced and still lies there: it is now replaced by the new one.
    paths = [path for path, _ in whole]
    paths += [replaced for path in paths for replaced in waiting.get(path, ())]
    names = [path.relative_to(folder).as_posix() for path in paths]
    table = pa.concat_tables([table for _, table in whole]).combine_chunks()
    if kind.key is not None:
        table = _once(table, kind.key, known)
    if len(table) == 0:  # all of it stands in other parts; these files stay, and are counted once by their readers
        return
    # By what it replaces, so that folding the same files again, here or on another machine, makes the same part.
    part = folder / FOLDED / f"{fingerprint_texts([names])}{PARQUET}"

    def write_list(temporary: Path) -> None:
        temporary.write_text("\n".join(names) + "\n", encoding="utf-8")

    write_file(store.scratch, part.with_suffix(REPLACES), write_list)
    write_parquet(store.scratch, part, kind.ordered(table), row_group_size=group_rows(table))
    known.add(part)
    done.files += len(whole)
    done.rows += len(table)
    done.parts += 1


def _once(table: pa.Table, key: str, known: set[Path]) -> pa.Table:
    """Without rows that are there already: two writers that raced may have written one embedding twice."""
    seen = {value for part in known for value in pq.read_table(part, columns=[key], partitioning=None)[key].to_pylist()}
    keep = []
    for value in table[key].to_pylist():
        keep.append(value not in seen)
        seen.add(value)
    return table if all(keep) else table.filter(pa.array(keep))


def remove_folded(store: Store, folder: Path, done: Folded, grace_s: float = GRACE_S) -> Folded:
    """Delete what was folded at least `grace_s` seconds ago, once its part has been read from end to end."""
    claims, claim = claims_at(store.root / "maintenance.claims"), f"fold {done.folder}"
    if not claims.claim(claim):
        return done
    try:
        files = files_of(folder)
        for part, replaced in files.replaced.items():
            try:
                age = time.time() - part.stat().st_mtime
            except FileNotFoundError:  # itself folded into a larger one, and removed just now
                continue
            if age < grace_s:
                done.waiting += len(replaced)
                continue
            try:
                _read_through(part)
            except (pa.ArrowException, OSError) as exc:
                done.faults.append(
                    f"{part.relative_to(store.root)}: {exc}; it is damaged, and what it was made of is still there: "
                    f"delete it and its {REPLACES} file, and run the maintenance again"
                )
                continue
            done.removed += _remove(store, folder, part, replaced)
        _remove_lists_without_part(folder)
    finally:
        claims.release(claim)
    return done


def _read_through(part: Path) -> None:
    file = pq.ParquetFile(part)
    for group in range(file.num_row_groups):
        file.read_row_group(group)


def _remove(store: Store, folder: Path, part: Path, replaced: Sequence[Path]) -> int:
    removed = 0
    used = _times_of_use(part)
    embeddings = FoldedEmbeddings(folder, store.scratch)
    for path in replaced:
        try:
            changed_ns = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
        if changed_ns > used.get(path.stem, changed_ns):  # used again between the folding and now
            embeddings.use(path.stem, changed_ns)
        remove_file(path)
        if path.parent.name == FOLDED:  # what it had replaced is replaced by this part as well
            remove_file(path.with_suffix(REPLACES))
        removed += 1
    remove_file(part.with_suffix(REPLACES))
    return removed


def _times_of_use(part: Path) -> dict[str, int]:
    """By fingerprint; empty for what is no embedding."""
    if USED not in pq.read_schema(part).names:
        return {}
    table = pq.read_table(part, columns=["fingerprint", USED], partitioning=None)
    return dict(zip(table["fingerprint"].to_pylist(), table[USED].to_pylist(), strict=True))


def _remove_lists_without_part(folder: Path) -> None:
    """What a folding left that was killed between its two steps, or a removal at its last one."""
    for path in (folder / FOLDED).glob(f"*{REPLACES}"):
        if not path.with_suffix(PARQUET).exists() and time.time() - path.stat().st_mtime > GRACE_S:
            remove_file(path)
