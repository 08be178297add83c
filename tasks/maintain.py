"""Upkeep of a store: small files folded into larger ones, and indexes where there are very many embeddings."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel

from fute.errors import StoreError
from fute.types import Kind
from storage import compaction, fold_kinds, nearest_index, removal
from storage.fold_kinds import Folded
from storage.folding import files_of, while_files_go
from storage.store import Store
from storage.vectors import VectorStore
from tasks import resources

log = logging.getLogger(__name__)


class Built(BaseModel):
    """An index that was built."""

    space: str
    kind: str
    rows: int
    recall_at_10: float
    seconds: float


class Due(BaseModel):
    """An index to be built."""

    space: str
    kind: Kind


def folders(store: str) -> list[str]:
    """What can be folded, relative to the store."""
    opened = Store(store)
    return [path.relative_to(opened.root).as_posix() for path, _ in fold_kinds.folders(opened)]


@task(cache_policy=NO_CACHE, task_run_name="fold-{folder}")
def fold_folder(store: str, folder: str, min_files: int) -> Folded:
    opened = Store(store)
    path, kind = _known(opened, folder)
    return compaction.fold(opened, path, kind, min_files=min_files)


@task(cache_policy=NO_CACHE, task_run_name="remove-folded-{done.folder}")
def remove_folded(store: str, done: Folded, grace_s: float) -> Folded:
    opened = Store(store)
    path, _ = _known(opened, done.folder)
    return removal.remove_folded(opened, path, done, grace_s)


@task(cache_policy=NO_CACHE, task_run_name="index-{due.space}-{due.kind}")
def build_index(store: str, due: Due) -> Built:
    with resources.compute_lock:
        card = nearest_index.build_index(Store(store), due.space, due.kind)
    return Built.model_validate(asdict(card))


@task(cache_policy=NO_CACHE, task_run_name="fold-answers")
def fold_answers(store: str) -> int:
    """Move the answers of ended processes from SQLite into Parquet; returns how many files were moved."""
    return resources.response_store(Store(store)).fold()


def indexes_due(store: str, index_from: int) -> list[Due]:
    """Kinds with so many embeddings whose index is missing, stale, or leaves a tenth of them out."""
    opened = Store(store)
    due = []
    # By the folders, not by the table of spaces: a fault in that is told where it is read.
    for folder in sorted(opened.root.glob("embeddings/space=*/kind=*")):
        space, kind = (part.partition("=")[2] for part in folder.parts[-2:])
        if kind not in get_args(Kind):
            continue
        try:
            if while_files_go(partial(_is_due, opened, space, cast(Kind, kind), index_from)):
                due.append(Due(space=space, kind=cast(Kind, kind)))
        except StoreError as exc:  # a part is damaged, which is a fault of its folding already
            log.warning("maintain: no index of %s, %s: %s", space, kind, exc)
    return due


def _is_due(store: Store, space: str, kind: Kind, index_from: int) -> bool:
    files = files_of(VectorStore(store).folded(space, kind).folder).live
    rows = nearest_index.count_rows(files)
    return rows >= index_from and nearest_index.is_due(store, space, kind, files, rows)


def publish(folders: list[Folded], built: list[Built]) -> None:
    """The run's table among Prefect's artifacts."""
    rows: list[dict[str, Any]] = [
        {"folder": f.folder, "folded": f.files, "into": f.parts, "removed": f.removed, "waiting": f.waiting}
        for f in folders
    ]
    rows += [{"folder": f"index of {b.space}, {b.kind}", "rows": b.rows, "recall@10": b.recall_at_10} for b in built]
    create_table_artifact(rows, key="maintenance", description="What was folded, removed and indexed")


def _known(store: Store, folder: str) -> tuple[Path, fold_kinds.Kind]:
    return next((path, kind) for path, kind in fold_kinds.folders(store) if path == store.root / folder)
