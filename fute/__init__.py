"""fute: datasets, fine-tuned models and prompted LLMs in one vector space."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from storage.open_store import OpenStore


def open(store: str | Path) -> OpenStore:
    """Look at a store: `fute.open("store").sql("SELECT * FROM models")`. It reads only, also while runs write.

    Args:
        store: its folder, or its URL on object storage.
    """
    # The one place where the library knows of the store, and only when it is asked for.
    from storage.open_store import OpenStore

    return OpenStore(store)
