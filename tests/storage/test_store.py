"""The store: round trips, atomic writes, damaged files, two writers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fute.errors import NotInStoreError, StoreError
from fute.spans import pack_spans
from fute.types import Dataset, Outputs, Pool, Split, TaskEmbedding, TextTable
from fute.unify.frame import FRAME_VERSION, PAIRS, Frame
from storage import catalog
from storage.files import Scratch, read_parquet, write_parquet
from storage.stamp import Stamp
from storage.store import Store, slug
from storage.vectors import VectorStore

STAMP = Stamp("mlflow-run", "flow-run")


def space_row(space: str = "s1") -> dict[str, object]:
    return {"space": space, "method": "crosscov", "surrogate": "tiny", "revision": "r", "pool": "p", "seed": 0,
            "settings": "{}"}  # fmt: skip


def embedding_row(subject: str, fingerprint: str, kind: str = "model", space: str = "s1") -> dict[str, object]:
    return {**space_row(space), "kind": kind, "fingerprint": fingerprint, "subject": subject,
            "subject_fingerprint": f"of-{subject}", "subject_kind": "python", "task": None}  # fmt: skip


def test_dataset_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    store = Store(tmp_path)
    train = Split(TextTable(["warm soup", "cold soup"], ["yes", None]), np.array([0, 1]))
    dataset = Dataset(
        "soups", "classification", {"train": train}, "f1", ("good", "bad"), {"source": "here"}, {"kept": 2}
    )
    ref = store.put_dataset(dataset, family="food", stamp=STAMP)
    back = store.dataset(ref)
    assert list(back.train.inputs.texts) == ["warm soup", "cold soup"]
    assert list(back.train.inputs.pairs or []) == ["yes", None]
    assert back.train.targets.tolist() == [0, 1]
    assert (back.label_names, dict(back.provenance), dict(back.report)) == (
        ("good", "bad"),
        {"source": "here"},
        {"kept": 2},
    )


def test_pool_keeps_its_identity_through_the_store(tmp_path: Path) -> None:
    pool = Pool(TextTable(["a text", "another"], [None, "with a pair"]), ["one", "two"], {"kept": 2})
    store = Store(tmp_path)
    assert store.put_pool(pool, STAMP) == pool.id
    back = store.pool(pool.id)
    assert back.id == pool.id
    assert list(back.source_ids) == ["one", "two"]


@pytest.mark.parametrize("answered", [None, np.array([True, False, True])])
def test_outputs_come_back_bit_for_bit(tmp_path: Path, answered: np.ndarray | None) -> None:
    values = np.array([[0.1, 0.9], [0.0, 0.0], [1 / 3, 2 / 3]], dtype=np.float32)
    outputs = Outputs("probabilities", values, ("no", "yes"), answered, {"calls": 3})
    store = Store(tmp_path)
    store.put_outputs("pool", "team/model@f", outputs, STAMP)
    back = store.outputs("pool", "team/model@f")
    assert back.fingerprint == outputs.fingerprint
    assert dict(back.details) == {"calls": 3}
    kept = "SELECT answer_key, other_keys FROM outputs ORDER BY row"
    assert catalog.query(tmp_path, kept).rows == [(None, None)] * 3
    store.put_outputs("pool", "team/model@f", replace(outputs, answer_keys=[["a"], [], ["b", "c", "d"]]), STAMP)
    assert catalog.query(tmp_path, kept).rows == [("a", None), (None, None), ("d", ["b", "c"])]


def test_answer_spans_come_back_bit_for_bit_and_are_in_the_view(tmp_path: Path) -> None:
    values = pack_spans(np.array([[3, -1], [0, 0]]), np.array([[9, -1], [0, 0]]), np.array([[0.6, 1 / 3], [0, 0]]))
    outputs = Outputs("spans", values, None, np.array([True, False]), {"rows_without_context": 1})
    store = Store(tmp_path)
    store.put_outputs("pool", "answerer@f", outputs, STAMP)
    back = store.outputs("pool", "answerer@f")
    assert (back.kind, back.fingerprint, dict(back.details)) == ("spans", outputs.fingerprint, outputs.details)
    found = catalog.query(tmp_path, "SELECT row, answered, label, values FROM outputs ORDER BY row").rows
    assert [line[:3] for line in found] == [(0, True, None), (1, False, None)]
    assert list(found[0][3]) == values[0].tolist()


def test_outputs_say_which_rows_their_model_was_asked_about(tmp_path: Path) -> None:
    asked = np.array([True, False, True])
    answered = np.array([True, False, False])
    outputs = Outputs("labels", np.eye(3, 2, dtype=np.float32), None, answered, asked=asked)
    store = Store(tmp_path)
    store.put_outputs("pool", "few@f", outputs, STAMP)
    np.testing.assert_array_equal(store.outputs("pool", "few@f").asked, asked)
    store.put_outputs("pool", "all@f", replace(outputs, asked=None), STAMP)
    assert store.outputs("pool", "all@f").asked is None


def test_ids_with_slashes_become_distinct_files() -> None:
    assert slug("a/b@1") != slug("a-b@1")
    assert "/" not in slug("a/b@1")


def test_features_are_computed_once_and_again_when_the_cache_is_damaged(tmp_path: Path) -> None:
    calls = []

    def compute(table: TextTable) -> np.ndarray:
        calls.append(len(table))
        return np.arange(len(table) * 3, dtype=np.float32).reshape(len(table), 3)

    table = TextTable(["x", "y"])
    features = Store(tmp_path).cached_features("surrogate", compute)
    first = features(table)
    np.testing.assert_array_equal(features(table), first)
    assert calls == [2]
    (cached,) = (tmp_path / "features" / "surrogate").glob("*.npy")
    cached.write_bytes(b"not an array")
    np.testing.assert_array_equal(features(table), first)
    assert calls == [2, 2]


def test_embedding_comes_back_with_all_that_stands_beside_it(tmp_path: Path) -> None:
    vectors = VectorStore(Store(tmp_path))
    vector = np.array([0.6, 0.8], dtype=np.float32)
    vectors.put(embedding_row("m", "e1"), TaskEmbedding(vector, {"loss": 0.5}), STAMP)
    back = vectors.get("s1", "model", "e1")
    np.testing.assert_array_equal(back.vector, vector)
    assert back.row["run_id"] == "mlflow-run"
    assert back.row["flow_run_id"] == "flow-run"
    assert back.row["created_at"].utcoffset().total_seconds() == 0
    assert back.row["dim"] == 2


@pytest.mark.parametrize("vector", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_a_vector_that_would_compare_as_nan_is_refused(tmp_path: Path, vector: list[float]) -> None:
    vectors = VectorStore(Store(tmp_path))
    with pytest.raises(StoreError, match="compare as NaN"):
        vectors.put(embedding_row("m", "e1"), TaskEmbedding(np.array(vector, dtype=np.float32)), STAMP)
    assert vectors.population("s1") == []


def test_an_embedding_is_never_rewritten(tmp_path: Path) -> None:
    vectors = VectorStore(Store(tmp_path))
    vectors.put(embedding_row("m", "e1"), TaskEmbedding(np.array([1, 0], dtype=np.float32)), STAMP)
    before = vectors.path("s1", "model", "e1").read_bytes()
    vectors.put(embedding_row("m", "e1"), TaskEmbedding(np.array([0, 1], dtype=np.float32)), STAMP)
    assert vectors.path("s1", "model", "e1").read_bytes() == before


def test_the_population_holds_the_newest_embedding_of_each_subject(tmp_path: Path) -> None:
    vectors = VectorStore(Store(tmp_path))
    for fingerprint, vector in (("zz-old", [1, 0]), ("aa-new", [0, 1])):
        vectors.put(embedding_row("m", fingerprint), TaskEmbedding(np.array(vector, dtype=np.float32)), STAMP)
    assert [e.fingerprint for e in vectors.population("s1")] == ["aa-new"]


def test_a_writer_killed_before_the_rename_leaves_the_store_readable(tmp_path: Path) -> None:
    vectors = VectorStore(Store(tmp_path))
    vectors.put(embedding_row("m", "e1"), TaskEmbedding(np.array([1, 0], dtype=np.float32)), STAMP)
    # What a killed writer leaves: half a file in the scratch folder.
    half = vectors.store.scratch.path()
    half.write_bytes(b"PAR1 half")
    assert len(vectors.population("s1")) == 1


def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"rubbish")
    with pytest.raises(StoreError, match=r"x\.parquet.*delete it"):
        read_parquet(path)


def test_a_file_of_a_later_schema_is_refused(tmp_path: Path) -> None:
    write_parquet(Scratch(tmp_path), tmp_path / "y.parquet", pa.table({"a": [1]}))
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "y.parquet").replace_schema_metadata({b"fute.schema_version": b"99"})
    pq.write_table(table, tmp_path / "y.parquet")
    with pytest.raises(StoreError, match="schema version"):
        read_parquet(tmp_path / "y.parquet")


def test_a_model_whose_training_fails_is_not_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> dict[str, object]:
        folder.mkdir()
        (folder / "weights.bin").write_bytes(b"half")
        raise RuntimeError("no more memory")

    with pytest.raises(RuntimeError):
        store.put_model({"ref": "m@1", "id": "m"}, STAMP, fail)
    assert not store.has_model("m@1")
    store.put_model({"ref": "m@1", "id": "m"}, STAMP, lambda folder: {"score": 0.5})
    assert store.model_card("m@1")["score"] == 0.5


def test_two_writers_of_one_model_end_with_one(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def slow(folder: Path) -> dict[str, object]:
        # Another process finishes the same model in the meantime.
        Store(tmp_path).put_model({"ref": "m@1", "id": "m"}, STAMP, lambda _: {"score": 1.0})
        return {"score": 1.0}

    store.put_model({"ref": "m@1", "id": "m"}, STAMP, slow)
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["m@1"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for missing in (lambda: store.dataset("d@1"), lambda: store.pool("p"), lambda: store.outputs("p", "m@1"),
                    lambda: store.model_card("m@1")):  # fmt: skip
        with pytest.raises(NotInStoreError):
            missing()


def frame(tasks: int, seed: int) -> Frame:
    datasets, models = np.random.default_rng(seed).normal(size=(2, tasks, 5)).astype(np.float32)
    return Frame.of(datasets, models)


def test_a_frame_comes_back_bit_for_bit_and_judges_as_it_did(tmp_path: Path) -> None:
    vectors = VectorStore(Store(tmp_path))
    assert vectors.frame("s1") is None
    made = frame(50, seed=0)
    vectors.put_frame("s1", made, STAMP)
    back = vectors.frame("s1")
    assert back is not None
    np.testing.assert_array_equal(back.mean, made.mean)
    assert (back.tasks, dict(back.own_first)) == (50, dict(made.own_first))
    subjects = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)
    np.testing.assert_array_equal(back.place(subjects), made.place(subjects))
    for a, b in PAIRS:
        for score in (-1.0, 0.0, 1.5, 3.0, 9.0):
            assert back.nulls[a, b].p_value(score, 20) == back.nulls[b, a].p_value(score, 20)
            assert back.nulls[a, b].p_value(score, 20) == made.nulls[a, b].p_value(score, 20)
    (told,) = catalog.query(tmp_path, "SELECT space, version, tasks FROM frames").rows
    assert told == ("s1", FRAME_VERSION, 50)


def test_a_frame_is_never_rewritten(tmp_path: Path) -> None:
    vectors = VectorStore(Store(tmp_path))
    first, second = frame(50, seed=0), frame(40, seed=1)
    for made in (first, second):
        vectors.put_frame("s1", made, STAMP)
    back = vectors.frame("s1")
    assert back is not None
    np.testing.assert_array_equal(back.mean, first.mean)
    vectors.put_frame("s2", second, STAMP)
    assert {row[0] for row in catalog.query(tmp_path, "SELECT tasks FROM frames").rows} == {40, 50}
