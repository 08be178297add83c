"""A small study that runs in a second or two, and what its store must hold however often it was disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage import catalog
from tests.flows.embeddings import assert_same, vectors
from tests.flows.small_study import write_small_study

SUBJECTS = {"mood", "topic", "asks", "tfidf/mood", "tfidf/topic", "tfidf/asks", "counted"}


def write_quick_study(folder: Path, **overrides: Any) -> Path:
    """Three datasets and four models, embedded by crosscov and by a short training of prefixes; not tracked."""
    settings: dict[str, Any] = {
        "methods": [
            {"method": "crosscov", "components": 16},
            {"method": "tupate", "prefix_tokens": 2, "epochs_dataset": 1, "epochs_model": 1},
        ],
        "models": [
            {"kind": "trained", "dataset": "*", "recipe": "tfidf"},
            {"kind": "python", "id": "counted", "entry_point": "small_models:counted"},
        ],
        "tracking": {"enabled": False},
    }
    return write_small_study(folder, **{**settings, **overrides})


def log_of(study: Path) -> str:
    """What its runs by a Forker have said."""
    return (study.parent / "run.log").read_text()


def assert_same_store(study: Path, undisturbed: Path) -> None:
    """Nothing is lost, nothing is double, and every embedding and ranking equals that of the undisturbed run."""
    expected = vectors(undisturbed.parent / "store")
    assert {subject for _, subject in expected} == SUBJECTS
    assert_same(vectors(study.parent / "store"), expected)
    for view, columns in (
        ("neighbors", "space, query, candidate, rank, score, ci_low, ci_high, verdict, similarity"),
        ("outputs", "pool, model, row, label, values"),
        ("datasets", "ref, n_train, n_test"),
        ("models", "ref, score"),
        ("pool_rows", "pool, row, text"),
        ("spaces", "space"),
    ):
        sql = f"SELECT {columns} FROM {view} ORDER BY ALL"
        told, wanted = (catalog.query(each.parent / "store", sql).rows for each in (study, undisturbed))
        assert told == wanted, view
