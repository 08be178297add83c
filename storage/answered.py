"""What was counted while a model was asked: read from the head of its outputs' file, without the outputs."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fute.errors import StoreError
from storage.files import advice
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
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError) as exc:
        raise StoreError(f"{path} cannot be read ({exc}); {advice(path, exc)}") from exc
    return dict(json.loads(metadata[b"fute.outputs"])["details"])
