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
from fute.types import Dataset, Outputs, Pool, Split, TaskEmbedding, TextTable
from fute.unify.frame import LEGEND, NO_LEGEND
from storage import schemas
from storage.accuracies import put_accuracies
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


def test_models_that_are_right_most_often_are_told_beyond_the_nearest_that_are_kept(store: Store) -> None:
    vectors = VectorStore(store)
    row = {"space": "one", "method": "crosscov", "surrogate": "embedded:tiny", "revision": "r", "pool": "p", "seed": 0,
           "settings": "{}", "kind": "model", "subject_kind": "python", "task": None}  # fmt: skip
    told = {"most_frequent": "good", "majority": 0.5, "balanced_chance": 0.5}
    judged = []
    for name, share in (("plain/api", 0.6), ("rules", 0.9)):
        fingerprint = "m2" if name == "plain/api" else "r1"
        if name == "rules":
            store.put_model({"ref": "rules@r1", "id": "rules", "fingerprint": "r1", "kind": "python"}, SECOND)
            whose = {"fingerprint": "one-rules-r1", "subject": name, "subject_fingerprint": "r1"}
            vectors.put({**row, **whose}, vector(0, 1, 1), SECOND)
        shares = {f"balanced_{what}": share for what in ("accuracy", "low", "high")}
        judged.append({"dataset": "soups@d1", "model": f"{name}@{fingerprint}", "expected_accuracy": share,
                       "accuracy_low": share - 0.05, "accuracy_high": share + 0.05, **shares, **told})  # fmt: skip
    put_accuracies(store, vectors.space("one"), judged, SECOND)
    assert len(vectors.neighbors("one")) == 1  # the ranking keeps one: the prompt
    near = read(store, ["one"]).spaces[0].nearest[0]
    assert [(one.id, one.score) for one in near] == [("plain/api", 7.5), ("rules", None)]
    assert [one.accuracy.expected for one in near if one.accuracy] == [0.6, 0.9]


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
    assert names == ["crosscov, tiny", "crosscov, other", "tupate"]


def test_spaces_that_differ_in_their_pool_are_told_apart_by_their_time(store: Store) -> None:
    space = {"method": "crosscov", "surrogate": "embedded:tiny"}
    times = [datetime(2026, 3, day, 9, 26, tzinfo=UTC) for day in (1, 14, 14)]
    rows = [{**space, "space": f"{i}0ffee1234", "created_at": at} for i, at in enumerate(times)]
    assert list(atlas._space_names(rows).values()) == [
        "crosscov, tiny, since 2026-03-01 09:26",
        "crosscov, tiny, since 2026-03-14 09:26, 10ffee",
        "crosscov, tiny, since 2026-03-14 09:26, 20ffee",
    ]


def test_a_space_is_told_in_words(store: Store) -> None:
    pool, vectors = Pool(TextTable(["broth", "stew", "bread"]), ("a", "a", "b")), VectorStore(store)
    store.put_pool(pool, SECOND)
    row = {"space": "three", "method": "taskemb", "surrogate": "embedded:tiny", "revision": "r", "pool": pool.id,
           "seed": 0, "settings": "{}"}  # fmt: skip
    vectors.put_space(row, SECOND)
    vectors.put({**row, "kind": "dataset", "fingerprint": "f", "subject": "soups", "subject_fingerprint": "d1",
                 "subject_kind": "classification", "task": None}, vector(1, 2), SECOND)  # fmt: skip
    assert [space.about for space in read(store, ["one", "three"]).spaces] == [
        "crosscov on tiny", "taskemb on tiny, a pool of 3 texts",
    ]  # fmt: skip


def test_the_page_of_a_store_lies_among_its_reports(store: Store, tmp_path: Path) -> None:
    with AtlasReader(store) as reader:
        path = write_store_page(reader, [])
    assert path == store.root / "reports" / "store.html"
    assert f"<title>All studies in {tmp_path.name}/zoo</title>" in path.read_text(encoding="utf-8")
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
