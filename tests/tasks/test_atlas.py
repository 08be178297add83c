"""What the atlas says of a store: every subject once, with its history, prompt, cost and drift, as they are stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fute.errors import NotInStoreError
from fute.report.page import render_atlas
from fute.report.types import Atlas, Neighbor
from fute.types import Dataset, Outputs, Split, TaskEmbedding, TextTable
from fute.unify.frame import LEGEND, NO_LEGEND
from storage import schemas
from storage.drift import DriftStore
from storage.stamp import Stamp
from storage.store import Store
from storage.summary import summarise
from storage.vectors import VectorStore
from tasks import atlas
from tasks.atlas import AtlasReader, next_commands, write_store_page
from tests.storage.small_store import STAMP_COLUMNS, ranked, small_frame

FIRST, SECOND = Stamp("mlflow-1", "flow-1"), Stamp("mlflow-2", "flow-2")
PRICED = {"id": "api", "usd_per_million_tokens_in": 1.0, "usd_per_million_tokens_out": 4.0}
ASKED = Outputs(
    kind="probabilities",
    values=np.array([[1.0, 0.0], [0.0, 1.0]], np.float32),
    details={"calls": 300, "cached": 100, "tokens_in": 2_000_000, "tokens_out": 500_000, "latency_ms": 21.5},
)


def vector(*numbers: float) -> TaskEmbedding:
    return TaskEmbedding(np.array(numbers, np.float32) / np.linalg.norm(numbers).astype(np.float32))


def read(store: Store, spaces: list[str]) -> Atlas:
    with AtlasReader(store) as reader:
        return reader.atlas("zoo", spaces, [])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two spaces. `plain/api` was embedded twice in the first: its prompt changed in between."""
    store = Store(tmp_path / "zoo")
    vectors = VectorStore(store)
    train = Split(TextTable(["warm soup", "cold soup"]), np.array([0, 1]))
    dataset = Dataset("soups", "classification", {"train": train}, "d1", ("good", "bad"), {"data": {"files": "x.csv"}})
    store.put_dataset(dataset, family="food", stamp=FIRST)
    prompt: dict[str, Any] = {"id": "plain", "cot": False, "answer": "label", "parse": "any"}
    words = json.dumps({"good": ["good"], "bad": ["bad"]})
    settings = {"kind": "prompt", "prompt": "plain", "endpoint": "api", "temperature": 0.0}
    for version, (template, stamp) in enumerate((("Old: {{text}}", FIRST), ("New: {{text}}", SECOND)), start=1):
        store.put_prompt({**prompt, "template": template, "verbalizer": words}, stamp)
        store.put_model(
            {"ref": f"plain/api@m{version}", "id": "plain/api", "fingerprint": f"m{version}", "kind": "prompt",
             "task": "soups", "score": 0.75, "score_name": "accuracy", "settings": json.dumps(settings)},
            stamp,
        )  # fmt: skip
        store.put_outputs("p", f"plain/api@m{version}", ASKED, stamp)
    failed = [{"subject": "broken", "stage": "embed", "reason": "constant"}]
    ran = {"study": "kitchen", "flow": "pipeline", "settings": json.dumps({"endpoints": [PRICED]})}
    store.put_run({**ran, "failures": json.dumps(failed)}, SECOND)
    space = {"surrogate": "embedded:tiny", "revision": "r", "pool": "p", "seed": 0, "settings": "{}"}
    told: list[tuple[str, str, str, str, str, TaskEmbedding, Stamp]] = [
        ("one", "crosscov", "dataset", "soups", "d1", vector(1, 0, 0.1), FIRST),
        ("one", "crosscov", "model", "plain/api", "m1", vector(0, 1, 0), FIRST),
        ("one", "crosscov", "model", "plain/api", "m2", vector(1, 1, 0), SECOND),
        ("two", "tupate", "dataset", "soups", "d1", vector(1, 0), FIRST),
    ]
    for name, method, kind, subject, version, embedding, stamp in told:
        vectors.put_space({**space, "space": name, "method": method}, stamp)
        row = {**space, "space": name, "method": method, "kind": kind, "fingerprint": f"{name}-{subject[:5]}-{version}",
               "subject": subject, "subject_fingerprint": version, "task": "soups",
               "subject_kind": "prompt" if kind == "model" else "classification"}  # fmt: skip
        vectors.put(row, embedding, stamp)
    pair = {"query": "soups", "query_kind": "dataset", "candidate": "plain/api", "candidate_kind": "model"}
    near = ranked({"space": "one", **pair, "rank": 1, "score": 7.5, "ci_low": 6.0, "ci_high": 8.0, "verdict": "fits",
                   "similarity": 0.7})  # fmt: skip
    vectors.put_ranking("one", "n1", near, vectors.population("one"), None, SECOND)
    check = {"study": "kitchen", "model": "plain/api", "pool": "p", "panel": "q", "baseline": "q-000001",
             "tier": "panel", "noise": 0.01, "rows": 1, "answered": 1.0, "calls": 1}  # fmt: skip
    for version, share in (("m1", 0.02), ("m2", 0.3)):
        row = {**check, "model_ref": f"plain/api@{version}", "drifted": share > 0.1, "share": share,
               "share_low": share / 2, "share_high": 2 * share, "reasons": ["a verdict"]}  # fmt: skip
        DriftStore(store).put_check(row, SECOND)
    DriftStore(store).put_check({**check, "model_ref": "plain/api@m2", "tier": "wire", "drifted": False}, SECOND)
    return store


def test_a_subject_is_told_once_with_all_that_is_stored_of_it(store: Store) -> None:
    with AtlasReader(store) as reader:
        shown = reader.atlas("zoo", reader.spaces(), reader.failures())
    assert [(space.id, space.name, len(space.members)) for space in shown.spaces] == [
        ("one", "crosscov", 2), ("two", "tupate", 1),
    ]  # fmt: skip
    soups, plain = shown.subjects
    assert (soups.id, soups.kind, soups.family) == ("soups", "dataset", "food")
    assert {("rows", "2 train"), ("labels", "good, bad"), ("from", "files: x.csv")} <= set(soups.facts)
    assert {(v.space, v.current) for v in soups.history} == {("one", True), ("two", True)}
    assert (plain.type, plain.family, plain.task, plain.score) == ("prompt", "food", "soups", 0.75)
    assert ("endpoint", "api") in plain.facts
    assert plain.prompt is not None
    assert plain.prompt.template == "New: {{text}}"
    assert dict(plain.prompt.verbalizer) == {"good": ["good"], "bad": ["bad"]}
    assert [(v.fingerprint, v.current, v.run) for v in plain.history] == [
        ("one-plain-m1", False, "mlflow-1"), ("one-plain-m2", True, "mlflow-2"),
    ]  # fmt: skip
    assert plain.history[0].similarity == pytest.approx(0.5**0.5)
    assert [(check.drifted, check.share) for check in plain.drift] == [(False, 0.02), (True, 0.3)]
    assert len({check.baseline for check in plain.drift}) == 2  # of two versions, though their names are alike
    assert shown.spaces[0].nearest[0] == [Neighbor("plain/api", "model", 7.5, 6.0, 8.0, "fits")]
    assert [(failure.id, failure.reason) for failure in shown.failures] == [("broken", "kitchen, embed: constant")]
    assert "plain/api" in render_atlas(shown)


def test_a_space_says_how_its_scores_are_read(store: Store) -> None:
    (bare,) = read(store, ["one"]).spaces
    assert bare.legend == NO_LEGEND
    vectors, frame = VectorStore(store), small_frame(dim=3)
    vectors.put_frame("one", frame, SECOND)
    (unranked,) = read(store, ["one"]).spaces
    assert unranked.legend == NO_LEGEND  # its ranking was made without
    population = vectors.population("one")
    chance = frame.chance(frame.place([e.vector for e in population]))
    pair = {"query": "soups", "query_kind": "dataset", "candidate": "plain/api", "candidate_kind": "model"}
    near = ranked({"space": "one", **pair, "rank": 1, "score": 2.0, "similarity": 0.5})
    vectors.put_ranking("one", "n2", near, population, chance, SECOND)
    (framed,) = read(store, ["one"]).spaces
    assert framed.legend == LEGEND
    assert not np.allclose(framed.similarities, bare.similarities)


def test_a_ranking_without_a_frame_shows_cosines(store: Store) -> None:
    pair = {"query": "soups", "query_kind": "dataset", "candidate": "plain/api", "candidate_kind": "model"}
    vectors = VectorStore(store)
    near = ranked({"space": "one", **pair, "rank": 1, "similarity": 0.5})
    vectors.put_ranking("one", "n2", near, vectors.population("one"), None, SECOND)
    assert read(store, ["one"]).spaces[0].nearest[0] == [Neighbor("plain/api", "model", 0.5)]


def test_what_asking_cost_is_reckoned_with_the_prices_of_its_run(store: Store) -> None:
    cost = read(store, ["one"]).subjects[1].cost
    assert cost is not None
    assert (cost.calls, cost.kept, cost.tokens_in, cost.usd) == (300, 100, 2_000_000, pytest.approx(2 + 2))
    for file in (store.root / "runs").glob("*.parquet"):
        file.unlink()
    unpriced = read(store, ["one"]).subjects[1].cost
    assert unpriced is not None
    assert (unpriced.calls, unpriced.usd) == (300, None)


def test_a_prompt_that_went_back_is_shown_as_it_is_now(store: Store) -> None:
    vectors = VectorStore(store)
    back = vectors.population("one", {("model", "plain/api"): "one-plain-m1"})
    rows = pa.Table.from_pylist(vectors.neighbors("one"), schemas.NEIGHBORS).drop_columns(list(STAMP_COLUMNS))
    vectors.put_ranking("one", "n2", rows, back, None, SECOND)
    plain = read(store, ["one"]).subjects[1]
    assert [(v.fingerprint, v.current) for v in plain.history] == [("one-plain-m1", True), ("one-plain-m2", False)]
    assert plain.prompt is not None
    assert plain.prompt.template == "Old: {{text}}"


def test_a_space_that_no_screen_can_show_is_named_and_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atlas, "MOST_SUBJECTS", 1)
    shown = read(store, ["one", "two"])
    assert [space.id for space in shown.spaces] == ["two"]
    assert "Space one holds 2 subjects and is not drawn" in shown.notes[0]


def test_two_spaces_of_one_method_are_told_apart(store: Store) -> None:
    vectors = VectorStore(store)
    row = {"space": "three000", "method": "crosscov", "surrogate": "embedded:other", "revision": "r", "pool": "p",
           "seed": 0, "settings": "{}"}  # fmt: skip
    vectors.put_space(row, FIRST)
    vectors.put({**row, "kind": "dataset", "fingerprint": "f", "subject": "soups", "subject_fingerprint": "d1",
                 "subject_kind": "classification", "task": None}, vector(1, 2), FIRST)  # fmt: skip
    with AtlasReader(store) as reader:
        names = [space.name for space in reader.atlas("zoo", reader.spaces(), []).spaces]
    assert names == ["crosscov, tiny, one", "crosscov, other, three0", "tupate"]


def test_the_page_of_a_store_lies_among_its_reports(store: Store, tmp_path: Path) -> None:
    with AtlasReader(store) as reader:
        path = write_store_page(reader, [])
    assert path == store.root / "reports" / "store.html"
    assert "<title>Store zoo</title>" in path.read_text(encoding="utf-8")
    assert datetime.now(UTC).strftime("%Y-%m-%d") in path.read_text(encoding="utf-8")
    with AtlasReader(Store(tmp_path / "empty")) as reader, pytest.raises(NotInStoreError, match="nothing is embedded"):
        write_store_page(reader, [])


def test_a_command_to_look_at_runs_is_given_only_where_the_store_has_them(store: Store) -> None:
    # Runs that are tracked elsewhere: the command would make an empty file in the store.
    assert [purpose for purpose, _ in next_commands(store, summarise(store, "one"))] == [
        "how often will each model be right? (a dataset, or a labelled file of yours)",
        "ask in SQL",
        "look at the flows in Prefect",
    ]
    (store.root / "mlflow.db").touch()
    commands = dict(next_commands(store, summarise(store, "one")))
    assert commands["look at the runs in MLflow"].endswith(f"--backend-store-uri sqlite:///{store.root}/mlflow.db")
    assert f"--store {store.address} " in commands["ask in SQL"]
