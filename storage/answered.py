"""What was counted while a model was asked: read from the head of its outputs' file, without the outputs."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq

from storage.seal import UNREADABLE, require_own_place, require_unbroken, unreadable
from storage.store import Store


def outputs_details(store: Store, pool: str, ref: str) -> dict[str, Any]:
    """The details of stored outputs (calls, tokens, refusals ...); empty where there are no outputs.

    Raises:
        StoreError: the file is damaged.
    """
    path = store.outputs_path(pool, ref)
    if not path.is_file():
        return {}
    try:
        require_unbroken(path)
        metadata = pq.read_schema(path).metadata
    except UNREADABLE as exc:
        raise unreadable(path, exc) from exc
    require_own_place(path, metadata)
    return dict(json.loads(metadata[b"fute.outputs"])["details"])
