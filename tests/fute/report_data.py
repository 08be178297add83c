"""Made-up maps for the tests of the report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from fute.report.layout import cluster_order, map_positions
from fute.report.types import Command, Failure, MapData, Neighbor, SubjectPoint

TASKS = ("hotel_reviews", "court_topics", "mail_intents", "recipe_cuisine")
RECIPES = (("tfidf", "trained", 0.9), ("probe", "transformers", 0.5))
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>document.title='taken'</script>",
    "\"'><svg onload=alert(2)> &amp; \u2028\u202e",
    "javascript:alert(3)//{{7*7}}${7*7}`",
)


def unit_vectors(tasks: tuple[str, ...] = TASKS, *, seed: int = 0, dim: int = 24) -> np.ndarray:
    """Per task one dataset, then one model of each recipe around it."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in tasks:
        center = rng.normal(size=dim)
        rows += [center + noise * rng.normal(size=dim) for noise in (0.2, *(noise for _, _, noise in RECIPES))]
    vectors = np.array(rows)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_map(tasks: tuple[str, ...] = TASKS, **changes: Any) -> MapData:
    """A map of `tasks`; `changes` replace fields of it."""
    vectors = unit_vectors(tasks)
    similarities = vectors @ vectors.T
    places = map_positions(similarities)
    named: list[tuple[str, Any, str, str | None]] = []
    for task in tasks:
        named.append((task, "dataset", "classification", None))
        named += [(f"{recipe}/{task}", "model", kind, task) for recipe, kind, _ in RECIPES]
    subjects = []
    for row, (name, kind, type_, task) in enumerate(named):
        nearest = [
            Neighbor(named[other][0], named[other][1], float(value), float(value) - 0.06, min(1.0, float(value) + 0.04))
            for other in np.argsort(-similarities[row])
            if other != row and (kind == "model" or named[other][1] == "model")
            for value in [similarities[row, other]]
        ]
        subjects.append(
            SubjectPoint(
                id=name,
                kind=kind,
                type=type_,
                x=float(places[row, 0]),
                y=float(places[row, 1]),
                family=("opinion", "subject")[row // 6 % 2],
                task=task,
                score=None if task is None else 0.8125,
                score_name=None if task is None else "accuracy",
                nearest=nearest,
            )
        )
    fields: dict[str, Any] = {
        "title": "Spring zoo",
        "subtitle": "MiniLM · crosscov · 400 texts",
        "created_at": datetime(2026, 3, 14, 9, 26, tzinfo=UTC),
        "subjects": subjects,
        "similarities": similarities,
        "order": cluster_order(similarities),
        "notes": ["Reference means: version 1."],
        "failures": [Failure("old/constant", "the outputs are the same for every input")],
        "store": "examples/store",
        "commands": [Command("In SQL", "fute sql 'select 1'")],
    }
    return MapData(**(fields | changes))


def hostile_map() -> MapData:
    """The same map with every text from outside chosen to do harm."""
    first, second, third, fourth = HOSTILE
    return make_map(
        tasks=HOSTILE,
        title=f"{second} {first}",
        subtitle=third,
        notes=list(HOSTILE),
        failures=[Failure(first, second), Failure(fourth, third)],
        store=second,
        commands=[Command(first, second)],
        interval=first,
    )
