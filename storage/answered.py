"""What was counted while a model was asked: read from the head of its outputs' file, without the outputs."""

from __future__ import annotations

import json
from typing import Any

from storage.seal import opened
from storage.store import Store


def outputs_details(store: Store, pool: str, ref: str) -> dict[str, Any]:
    """The details of stored outputs (calls, tokens, refusals ...); empty where there are no outputs.

    Raises:
        StoreError: the file is damaged.
    """
    path = store.outputs_path(pool, ref)
    if not path.is_file():
        return {}
    with opened(path) as file:
        metadata = file.schema_arrow.metadata
    return dict(json.loads(metadata[b"fute.outputs"])["details"])
