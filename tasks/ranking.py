"""What makes the ranking of a space the one that it is."""

from __future__ import annotations

from collections.abc import Sequence

from fute.config import Method, UnifyConfig
from fute.fingerprint import fingerprint
from fute.unify.frame import FRAME_VERSION
from storage.vectors import StoredEmbedding

# Raised when the same embeddings would be ranked otherwise.
UNIFY_VERSION = 2


def ranking_key(population: Sequence[StoredEmbedding], method: Method, config: UnifyConfig) -> str:
    return fingerprint(
        members=[e.fingerprint for e in population],
        frame=config.frame,
        frame_version=FRAME_VERSION,
        limit=config.neighbors,
        bootstrap=getattr(method, "bootstrap", 0),
        version=UNIFY_VERSION,
    )
