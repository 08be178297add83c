"""A unified space read back from the store: its subjects, its neighbours, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.files import read_parquet
from storage.store import Store
from storage.vectors import StoredEmbedding, VectorStore


@dataclass(frozen=True, eq=False)
class SpaceSummary:
    """One space after its last unification.

    Attributes:
        space: its row of `spaces`.
        population: the newest embedding of each subject.
        neighbors: rows of `neighbors` by (kind, subject) of the query, best first.
        model_cards: rows of `models` by id.
        families: by dataset id, where given.
    """

    space: Mapping[str, Any]
    population: Sequence[StoredEmbedding]
    neighbors: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
    model_cards: Mapping[str, Mapping[str, Any]]
    families: Mapping[str, str | None]
    reference: str

    def nearest(self, kind: str, subject: str, candidate_kind: str, k: int) -> list[Mapping[str, Any]]:
        rows = self.neighbors.get((kind, subject), ())
        return [row for row in rows if row["candidate_kind"] == candidate_kind][:k]


def summarise(store: Store, space: str) -> SpaceSummary:
    """Read one space back."""
    vectors = VectorStore(store)
    population = vectors.population(space)
    neighbors: dict[tuple[str, str], list[dict[str, Any]]] = {}
    reference = "none"
    for row in vectors.neighbors(space):
        neighbors.setdefault((row["query_kind"], row["query"]), []).append(row)
        reference = row["reference"]
    cards, families = {}, {}
    for embedding in population:
        ref = f"{embedding.subject}@{embedding.row['subject_fingerprint']}"
        if embedding.kind == "model":
            cards[embedding.subject] = store.model_card(ref)
        else:
            path = store.dataset_folder(ref) / "card.parquet"
            families[embedding.subject] = read_parquet(path).to_pylist()[0]["family"]
    described = next(s for s in vectors.spaces() if s["space"] == space)
    return SpaceSummary(described, population, neighbors, cards, families, reference)
