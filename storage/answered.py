"""What was counted while a model was asked: read from the head of its outputs' file, without the outputs."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq

from storage.store import Store


def outputs_details(store: Store, pool: str, ref: str) -> dict[str, Any]:
    """The details of stored outputs (calls, tokens, refusals ...); empty where there are no outputs."""
    path = store.outputs_path(pool, ref)
    if not path.is_file():
        return {}
    metadata = pq.read_schema(path).metadata or {}
    return dict(json.loads(metadata[b"fute.outputs"])["details"])
