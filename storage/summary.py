"""A unified space read back from the store: its subjects, its neighbours, and what is known of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fute.unify.frame import Frame
from storage.accuracies import accuracies, better
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
        frame: of its ranking; None: nothing is known of chance.
        accuracies: rows of `accuracies` by id of the dataset and of the model.
    """

    space: Mapping[str, Any]
    population: Sequence[StoredEmbedding]
    neighbors: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
    model_cards: Mapping[str, Mapping[str, Any]]
    families: Mapping[str, str | None]
    frame: Frame | None
    accuracies: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    def most_right(self, dataset: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The models of known accuracy on a dataset, the one that is right most often first."""
        judged = self.accuracies.get(dataset, {})
        known = [(model, row) for model, row in judged.items() if row["expected_accuracy"] is not None]
        return sorted(known, key=lambda found: (-found[1]["expected_accuracy"], found[0]))

    def better(self, dataset: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Of these the ones that are surely better than giving all texts the same label."""
        sure = better(self.accuracies.get(dataset, {}))
        return [(model, row) for model, row in self.most_right(dataset) if model in sure]

    def unknown(self, dataset: str) -> str:
        """Why no model's accuracy on a dataset is known: the reason that holds of the most models."""
        why = Counter(map(right_in_words, self.accuracies.get(dataset, {}).values()))
        return why.most_common(1)[0][0] if why else right_in_words(None)

    def nearest(self, kind: str, subject: str, candidate_kind: str, k: int) -> list[Mapping[str, Any]]:
        rows = self.neighbors.get((kind, subject), ())
        return [row for row in rows if row["candidate_kind"] == candidate_kind][:k]


def summarise(store: Store, space: str) -> SpaceSummary:
    """Read one space back."""
    vectors = VectorStore(store)
    population = vectors.population(space)
    neighbors: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in vectors.neighbors(space):
        neighbors.setdefault((row["query_kind"], row["query"]), []).append(row)
    cards, families = {}, {}
    for embedding in population:
        if embedding.kind == "model":
            cards[embedding.subject] = store.model_card(embedding.ref)
        else:
            path = store.dataset_folder(embedding.ref) / "card.parquet"
            families[embedding.subject] = read_parquet(path).to_pylist()[0]["family"]
    described = next(s for s in vectors.spaces() if s["space"] == space)
    known = accuracies(store, described)
    models = {e.ref: e.subject for e in population if e.kind == "model"}
    judged: dict[str, dict[str, dict[str, Any]]] = {}
    for e in population:
        if e.kind == "dataset":
            of_each = {name: known.get((e.ref, ref)) for ref, name in models.items()}
            judged[e.subject] = {name: row for name, row in of_each.items() if row is not None}
    return SpaceSummary(described, population, neighbors, cards, families, vectors.ranked_frame(space), judged)


def right_in_words(row: Mapping[str, Any] | None) -> str:
    """'right in 0.86 (0.81 to 0.90)', or 'unknown: ' and why.

    Args:
        row: of `accuracies` or `neighbors`; None: nobody looked.
    """
    if row is None:
        return "unknown: not counted (no classes, or not ranked since)"
    if row["expected_accuracy"] is None:
        return f"unknown: {row['accuracy_unknown']}"
    within = f"{row['accuracy_low']:.2f} to {row['accuracy_high']:.2f}"
    turned = ", its classes in another order than named" if row.get("turned") else ""
    return f"right in {row['expected_accuracy']:.2f} ({within}){turned}"


def shown_score(row: Mapping[str, Any]) -> float:
    """The score of a row of `neighbors`; the cosine without a frame, and in rankings of earlier versions."""
    return row["similarity"] if row["score"] is None else row["score"]


def lead_in_words(row: Mapping[str, Any]) -> str:
    """'8.4 (2.1 to 14.7)': how far a first neighbour is ahead of the second; empty where that was not measured."""
    return "" if row["ahead"] is None else f"{row['ahead']:.1f} ({row['ahead_low']:.1f} to {row['ahead_high']:.1f})"


def near_in_words(row: Mapping[str, Any]) -> str:
    """'id 12.3 (10.1 to 14.5), fits'; for a first neighbour that is no more than chance 'nothing fits (id 1.2)'."""
    if row["score"] is None:
        return f"{row['candidate']} {row['similarity']:.2f}"
    if row["verdict"] == "nothing" and row["rank"] == 1:
        return f"nothing fits ({row['candidate']} {row['score']:.1f})"
    interval = "" if row["ci_low"] is None else f" ({row['ci_low']:.1f} to {row['ci_high']:.1f})"
    means = f", {row['verdict']}" if row["verdict"] in ("fits", "may fit") else ""
    return f"{row['candidate']} {row['score']:.1f}{interval}{means}"
