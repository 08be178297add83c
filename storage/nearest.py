"""The nearest subjects of one, in a space's own frame: by an index where there is a good one, else one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
import pyarrow.compute as pc

from fute.errors import NotInStoreError
from fute.types import Floats, Kind
from fute.unify.frame import Reference, unify
from storage.embedding_scan import Scan, best
from storage.folding import files_of, while_files_go
from storage.nearest_index import newer_files, search, usable_index, used_again
from storage.store import Store
from storage.vectors import VectorStore


@dataclass(frozen=True)
class Neighbor:
    kind: Kind
    subject: str
    score: float


class Side:
    """The embeddings of one kind in one space: what an index covers, and what is newer or was used again since."""

    def __init__(self, store: Store, space: str, kind: Kind, reference: Reference) -> None:
        self.space, self.kind, self.reference = space, kind, reference
        self._vectors = VectorStore(store)
        folded = self._vectors.folded(space, kind)
        files = files_of(folded.folder).live
        self.index = usable_index(store, space, kind, reference, files)
        self.scan = Scan(files if self.index is None else newer_files(store, self.index.card, files),
                         kind, reference, folded)  # fmt: skip
        again = used_again(self.index, folded, files, self.scan.members) if self.index is not None else []
        if again is None:
            self.index, self.scan = None, Scan(files, kind, reference, folded)
        elif again:
            self.scan = Scan(self.scan.paths, kind, reference, folded, again)

    @property
    def found_by(self) -> str:
        if self.index is None:
            return "brute force"
        return f"index + {len(self.scan.members)} newer" if len(self.scan.members) else "index"

    def find(self, subject: str) -> Floats | None:
        """The vector of a subject in the space's frame; None where it is not here."""
        fingerprint = self.scan.fingerprint_of(subject)
        if fingerprint is None and self.index is not None:
            row = pc.index(self.index.members["subject"], subject).as_py()
            fingerprint = self.index.members["fingerprint"][row].as_py() if row >= 0 else None
        if fingerprint is None:
            return None
        stored = self._vectors.get(self.space, self.kind, fingerprint)
        return unify(stored.vector[None], [stored.group], self.reference)[0]

    def nearest(self, query: Floats, k: int, without: str | None) -> list[Neighbor]:
        """The k nearest of this side, best first, leaving out one subject."""
        scores, rows = best(self.scan.kept_blocks(), query[None], k + 1)
        members = self.scan.kept_members()
        found = {members["subject"][int(row)].as_py(): float(score)
                 for score, row in zip(scores[0], rows[0], strict=True) if row >= 0}  # fmt: skip
        if self.index is not None:
            newer = set(members["subject"].to_pylist())
            # As many more as newer embeddings of the same subjects may replace.
            for subject, score in search(self.index, query, k + 1 + min(len(newer), 1000)):
                if subject not in newer:
                    found[subject] = score
        found.pop(without, None)
        ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:k]
        return [Neighbor(self.kind, subject, score) for subject, score in ordered]


def nearest(store: Store, subject: str, k: int = 10, space: str | None = None) -> list[dict[str, Any]]:
    """The k nearest datasets and the k nearest models of a subject, in every space that holds it.

    Returns:
        Rows like those of the macro `nearest`: space, method, candidate_kind, rank, candidate, score (cosine after the
        space's reference is removed), reference, and found_by: index, index + so many newer, or brute force.

    Raises:
        NotInStoreError: no space holds it, or there is no such space.
    """
    vectors = VectorStore(store)
    spaces = {row["space"]: row["method"] for row in vectors.spaces() if space in (None, row["space"])}
    if space is not None and not spaces:
        raise NotInStoreError(f"no space {space} in {store.root}; `fute ls spaces` lists what there is")
    found = {
        space_id: while_files_go(partial(_nearest_in, store, space_id, method, subject, k))
        for space_id, method in spaces.items()
    }
    if all(rows is None for rows in found.values()):
        raise NotInStoreError(f"no embedding of {subject!r} in {store.root}; `fute ls embeddings` lists what there is")
    return [row for rows in found.values() for row in rows or ()]


def _nearest_in(store: Store, space: str, method: str, subject: str, k: int) -> list[dict[str, Any]] | None:
    """Of one space; None: the subject is not in it."""
    reference = VectorStore(store).reference(space)
    sides = [Side(store, space, kind, reference) for kind in get_args(Kind)]
    own, query = next(((s.kind, v) for s in sides if (v := s.find(subject)) is not None), (None, None))
    if query is None:
        return None
    return [
        {"space": space, "method": method, "candidate_kind": neighbor.kind, "rank": rank,
         "candidate": neighbor.subject, "score": neighbor.score, "reference": reference.describe(),
         "found_by": side.found_by}
        for side in sides
        for rank, neighbor in enumerate(side.nearest(query, k, subject if side.kind == own else None), start=1)
    ]  # fmt: skip


def near_duplicates(store: Store, space: str, threshold: float, kind: Kind = "model") -> list[tuple[str, str, float]]:
    """Pairs of one kind whose cosine in the space's frame is at least the threshold, the closest first.

    Every pair is compared, in blocks: all vectors are held in memory, and time grows with the square of their number.
    """

    def look() -> tuple[list[str], list[Floats]]:
        stored = VectorStore(store)
        folded = stored.folded(space, kind)
        scan = Scan(files_of(folded.folder).live, kind, stored.reference(space), folded)
        return scan.kept_members()["subject"].to_pylist(), list(scan.kept_blocks())

    subjects, blocks = while_files_go(look)
    if not subjects:
        return []
    vectors = np.concatenate(blocks)
    pairs: list[tuple[str, str, float]] = []
    for start in range(0, len(vectors), 2048):
        scores = vectors[start : start + 2048] @ vectors[start:].T
        for row, column in np.argwhere(scores >= threshold):
            if column > row:
                a, b = sorted((subjects[start + row], subjects[start + column]))
                pairs.append((a, b, float(scores[row, column])))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))
