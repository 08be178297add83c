"""What makes the ranking of a space the one that it is, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Sequence

from fute.config import Method, UnifyConfig
from fute.fingerprint import fingerprint
from fute.unify.frame import FRAME_VERSION, Frame
from storage.vectors import StoredEmbedding

# Raised when the same embeddings would be ranked otherwise.
UNIFY_VERSION = 2

TELLS_LITTLE = 0.25
"""Share of pseudo-tasks that find their own other half first, below which a pool is said to be too small."""


def ranking_key(population: Sequence[StoredEmbedding], method: Method, config: UnifyConfig) -> str:
    return fingerprint(
        members=[e.fingerprint for e in population],
        frame=config.frame,
        frame_version=FRAME_VERSION,
        limit=config.neighbors,
        bootstrap=getattr(method, "bootstrap", 0),
        version=UNIFY_VERSION,
    )


def note_on(frame: Frame | None) -> str | None:
    """What a reader of the ranking should know, if anything."""
    if frame is None:
        return "raw cosines: nothing says what similarity means something"
    found = frame.own_first["dataset", "model"]
    if found >= TELLS_LITTLE:
        return None
    return (
        f"with this pool a task of its own finds its model first in {found:.0%} of {frame.tasks} cases: it is too "
        "small, or too uniform, to tell much; give it more texts"
    )
