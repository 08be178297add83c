"""A model that is added to a store changes no answer about the others; a frame is made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tasks.unify
from flows.pipeline import pipeline
from flows.unify import unify
from fute.unify.frame import embed_pseudo_tasks
from storage import catalog
from tasks.intervals import BEST
from tests.flows.small_study import write_small_study

pytestmark = pytest.mark.slow

METHODS = [{"method": "crosscov", "components": 16, "bootstrap": 20}]
ZOO = [
    {"kind": "trained", "dataset": "mood", "recipe": "tfidf"},
    {"kind": "trained", "dataset": "topic", "recipe": "tfidf"},
    {"kind": "python", "id": "short", "entry_point": "rules:short"},
]
NEWCOMERS = [
    {"kind": "trained", "dataset": "asks", "recipe": "tfidf"},
    {"kind": "python", "id": "asking", "entry_point": "rules:asking"},
]
RULES = """
def short(texts, pairs):
    return [[1.0, 0.0] if len(text) < 28 else [0.0, 1.0] for text in texts]

def asking(texts, pairs):
    words = ("where", "who", "when", "why")
    return [[1.0, 0.0] if any(word in text for word in words) else [0.0, 1.0] for text in texts]
"""


def write(folder: Path, models: list[dict[str, str]], **overrides: Any) -> str:
    (folder / "rules.py").write_text(RULES)
    settings = {"models": models, "methods": METHODS, "tracking": {"enabled": False}}
    return str(write_small_study(folder, **{**settings, **overrides}))


def ranking(store: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of the last ranking by query and candidate, best first."""
    rows = catalog.query(store, "SELECT * FROM neighbors ORDER BY query, candidate_kind, rank").records()
    return {(row["query"], row["candidate"]): row for row in rows}


def test_newcomers_move_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    framed: list[int] = []

    def counting(*args: Any) -> Any:
        framed.append(1)
        return embed_pseudo_tasks(*args)

    monkeypatch.setattr(tasks.unify, "embed_pseudo_tasks", counting)
    store = tmp_path / "store"
    pipeline(write(tmp_path, ZOO))
    before = ranking(store)
    (frame,) = (store / "frames").rglob("*.parquet")
    written = frame.read_bytes()
    pipeline(write(tmp_path, [*ZOO, *NEWCOMERS]))
    after = ranking(store)
    assert {query for query, _ in after} - {query for query, _ in before} == {"tfidf/asks", "asking"}
    for pair, row in before.items():
        has_interval = after[pair]["rank"] <= BEST  # behind newcomers there may be none any more
        for name in ("score", "similarity", *(("ci_low", "ci_high") if has_interval else ())):
            assert after[pair][name] == pytest.approx(row[name], rel=1e-4, abs=1e-4), (pair, name)
    assert [pair for pair in after if pair in before] == list(before)  # in the same order
    assert frame.read_bytes() == written
    assert list((store / "frames").rglob("*.parquet")) == [frame]
    assert framed == [1]
    # What is a cache comes back as it was.
    (store / "pseudo").rename(tmp_path / "gone")
    for name in ("neighbors", "members"):
        for path in (store / name).rglob("*.parquet"):
            path.unlink()
    unify(str(tmp_path / "study.yaml"))
    assert framed == [1, 1]
    assert frame.read_bytes() == written
    for pair, row in ranking(store).items():
        assert row["score"] == pytest.approx(after[pair]["score"], rel=1e-4, abs=1e-4)


def test_without_a_frame_cosines_are_ranked_and_nothing_is_judged(tmp_path: Path) -> None:
    one = {"unify": {"frame": "none", "neighbors": 1}}
    pipeline(write(tmp_path, ZOO, **one))
    rows = list(ranking(tmp_path / "store").values())
    assert {row["rank"] for row in rows} == {1}
    assert {(row["score"], row["verdict"], row["p_value"]) for row in rows} == {(None, None, None)}
    assert all(-1 <= row["similarity"] <= 1 for row in rows)
    assert not (tmp_path / "store" / "frames").exists()
    # With one: the only neighbour of a kind that is kept has no second to be ahead of.
    pipeline(write(tmp_path, ZOO, unify={"neighbors": 1}))
    rows = list(ranking(tmp_path / "store").values())
    assert {row["rank"] for row in rows} == {1}
    assert all(row["score"] is not None and row["ahead"] is None for row in rows)
    assert all(row["ci_low"] <= row["score"] + 1e-5 and row["score"] <= row["ci_high"] + 1e-5 for row in rows)
