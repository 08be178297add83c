"""What is folded: the kinds of folders of small files, and what tells their rows apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fute.errors import StoreError
from storage import schemas
from storage.folded_embeddings import USED
from storage.standing import check_keys, embedding_keys, run_keys
from storage.store import Store

SETTLED_S = 24 * 3600
"""A run's record is written again when its flow run is retried; one that is older than this is not."""


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


def read_keys(path: Path, kind: Kind) -> pa.Table:
    """What tells the rows of a file apart, and the times that go with them."""
    table = pq.read_table(path, columns=list(kind.columns), partitioning=None)
    if USED in kind.columns and USED not in table.column_names:  # a small file: its own time tells it
        table = table.append_column(USED, pa.nulls(len(table), pa.int64()))
    return kind.keys(table)
