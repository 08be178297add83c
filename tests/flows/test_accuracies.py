"""A run says how often each model will be right on each labelled dataset, and judges each pair once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tasks.match
from flows.pipeline import pipeline
from flows.unchanged import run_unchanged
from fute.errors import DataError, StoreError
from fute.load_study import load_study
from storage import catalog
from storage.store import Store
from storage.summary import right_in_words, summarise
from tasks.match import match
from tasks.plan import finished_spaces
from tests.flows.small_study import PARTS, rows_of, write_small_study

pytestmark = pytest.mark.slow

METHODS = [{"method": "crosscov", "components": 16}]
ZOO: list[dict[str, Any]] = [
    {"kind": "trained", "dataset": "mood", "recipe": "tfidf"},
    {"kind": "trained", "dataset": "topic", "recipe": "tfidf"},
    {"kind": "python", "id": "length", "entry_point": "rules:length", "outputs": "scores"},
]
RULES = "def length(texts, pairs):\n    return [[float(len(text))] for text in texts]\n"
COLUMNS = "dataset, model, expected_accuracy, accuracy_low, accuracy_high, accuracy_unknown, agreement"


def write(folder: Path, models: list[dict[str, Any]]) -> Path:
    """The small study with enough texts, in its test splits and its pool, to judge models on."""
    pool = {"sources": [{"data": {"files": "pool-*.csv"}}], "rows_per_source": 60, "exclude_evaluated": False}
    study = write_small_study(folder, models=models, methods=METHODS, pool=pool)
    for number, (name, parts) in enumerate(PARTS.items()):
        texts, labels = zip(*rows_of(parts, 80, number)[44:], strict=True)
        pq.write_table(pa.table({"text": list(texts), "label": list(labels)}), folder / f"{name}-test.parquet")
    every = [text for number, parts in enumerate(PARTS.values()) for text, _ in rows_of(parts, 80, 20 + number)]
    for source in range(4):
        lines = [f"{text} {word}" for text, word in zip(every[source::4], "abcd" * 15, strict=True)]
        (folder / f"pool-{source}.csv").write_text("text\n" + "\n".join(lines) + "\n")
    (folder / "rules.py").write_text(RULES)
    return study


def judged(store: Path) -> list[dict[str, Any]]:
    return catalog.query(store, f"SELECT {COLUMNS} FROM accuracies ORDER BY dataset, model").records()


def test_a_pair_is_judged_once_as_match_judges_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[str]] = []
    whole = tasks.match.read_outs

    def counting(pool: Any, outputs: Any, features: Any) -> Any:
        read.append(list(outputs))
        return whole(pool, outputs, features)

    monkeypatch.setattr(tasks.match, "read_outs", counting)
    store = tmp_path / "store"
    pipeline(str(write(tmp_path, ZOO)))
    first = judged(store)
    assert len(first) == 9
    own = {row["model"].partition("@")[0]: row for row in first if row["dataset"].startswith("topic@")}["tfidf/topic"]
    assert own["accuracy_low"] < own["expected_accuracy"] <= own["accuracy_high"]
    assert [sorted(models) for models in read] == [["length", "tfidf/mood", "tfidf/topic"]]
    assert {row["accuracy_unknown"] for row in first if "length" in row["model"]} == {
        "it answers with scores, not with classes"
    }

    # One more model: its pairs alone, and in another order of the study.
    read.clear()
    study = write(tmp_path, [{"kind": "trained", "dataset": "asks", "recipe": "tfidf"}, *reversed(ZOO)])
    assert finished_spaces(load_study(study), Store(store)) is None
    pipeline(str(study))
    assert read == [["tfidf/asks"]]
    after = judged(store)
    assert len(after) == 12
    assert [row for row in after if "tfidf/asks" not in row["model"]] == first

    # Nothing is left to do, and nobody makes a kernel.
    read.clear()
    assert finished_spaces(load_study(study), Store(store)) is not None
    monkeypatch.setattr("flows.unchanged.reports_to_a_server", lambda: False)
    assert run_unchanged(load_study(study)) is not None
    assert read == []

    # The command says the same.
    for dataset in ("mood", "topic", "asks"):
        rows = {row["model"].partition("@")[0]: row for row in after if row["dataset"].startswith(f"{dataset}@")}
        found = match(Store(store), dataset)
        assert rows.keys() == {m.model for m in found.models}
        for m in found.models:
            row = rows[m.model]
            assert (row["accuracy_unknown"], row["agreement"]) == (m.unknown, m.agreement)
            told = None if m.accuracy is None else (m.accuracy.expected, m.accuracy.low, m.accuracy.high)
            stored = tuple(row[name] for name in ("expected_accuracy", "accuracy_low", "accuracy_high"))
            assert stored == (told or (None, None, None))

    # A file that is kept under an id of its own is a dataset like any other.
    file = tmp_path / "mood-test.parquet"
    found = match(Store(store), str(file), keep="ours")
    assert found.models == match(Store(store), str(file)).models
    assert [m.accuracy for m in found.models] == [m.accuracy for m in match(Store(store), "ours").models]
    kept = {row["model"].partition("@")[0]: row for row in judged(store) if row["dataset"].startswith("ours@")}
    assert {m.model: m.accuracy and m.accuracy.expected for m in found.models} == {
        model: row["expected_accuracy"] for model, row in kept.items()
    }
    with pytest.raises(DataError, match="another dataset 'mood'"):
        match(Store(store), str(file), keep="mood")
    pipeline(str(study))
    ranked = catalog.query(store, "SELECT DISTINCT query FROM neighbors WHERE query = 'ours'").records()
    assert ranked == [{"query": "ours"}]
    after = judged(store)

    # An older store has no such rows: it reads, and a run makes them.
    for path in (store / "accuracies").rglob("*.parquet"):
        path.unlink()
    assert judged(store) == []
    (space,) = (row["space"] for row in catalog.query(store, "SELECT space FROM spaces").records())
    assert summarise(Store(store), space).most_right("mood") == []
    rows = catalog.query(store, "SELECT expected_accuracy FROM neighbors").records()
    assert {row["expected_accuracy"] for row in rows} == {None}
    pipeline(str(study))
    assert judged(store) == after


def test_one_model_that_cannot_be_read_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = Store.outputs

    def damaged(self: Store, pool: str, ref: str) -> Any:
        if ref.startswith("tfidf/mood@"):
            raise StoreError("its outputs are damaged")
        return outputs(self, pool, ref)

    study, store = write(tmp_path, ZOO), tmp_path / "store"
    pipeline(str(study))
    whole = judged(store)
    for path in (store / "accuracies").rglob("*.parquet"):
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "outputs", damaged)
        assert pipeline(str(study), return_state=True).name == "CompletedWithFailures"
    ((failures,),) = catalog.query(store, "SELECT failures FROM runs ORDER BY created_at DESC LIMIT 1").rows
    assert [(f["subject"], f["stage"]) for f in json.loads(failures)] == [("tfidf/mood", "match")]
    assert judged(store) == [row for row in whole if not row["model"].startswith("tfidf/mood@")]
    pipeline(str(study))
    assert judged(store) == whole


def test_unknown_is_said_with_its_reason() -> None:
    row = {"expected_accuracy": None, "accuracy_low": None, "accuracy_high": None, "accuracy_unknown": "it is shy"}
    assert right_in_words(row) == "unknown: it is shy"
    known = {"expected_accuracy": 0.86, "accuracy_low": 0.81, "accuracy_high": 0.9}
    assert right_in_words(known) == "right in 0.86 (0.81 to 0.90)"
