"""Vectors that travel to another store of the same space, and files that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fute.errors import NotInStoreError, StoreError
from fute.types import UNRELATED, TaskEmbedding
from storage import catalog
from storage.accuracies import missing_accuracies
from storage.nearest import nearest
from storage.seal import write_sealed
from storage.stamp import Stamp
from storage.store import Store
from storage.travel import CARD_KEY, Imported, _digest, read_file_of, write_file_of
from storage.vectors import VectorStore
from tests.storage.small_store import vector
from tests.storage.test_store import embedding_row, space_row

CHECKS = np.stack([vector(100 + i) / np.linalg.norm(vector(100 + i)) for i in range(3)])


def filled(root: Path, *subjects: str) -> Store:
    store = Store(root)
    vectors = VectorStore(store)
    vectors.put_space(space_row(), Stamp())
    for i, subject in enumerate(subjects):
        for kind in ("dataset", "model"):
            row = {**embedding_row(subject, f"{kind}-{subject}", kind), "subject_kind": "classification"}
            vectors.put(row, TaskEmbedding(vector(i), {UNRELATED: 0.25, "secret": 1.0}), Stamp())
    return store


@pytest.fixture
def theirs(tmp_path: Path) -> Store:
    return filled(tmp_path / "theirs", "sst2", "trec")


@pytest.fixture
def ours(tmp_path: Path) -> Store:
    return filled(tmp_path / "ours", "tickets")


@pytest.fixture
def file(theirs: Store, tmp_path: Path) -> Path:
    path = tmp_path / "theirs.parquet"
    assert write_file_of(theirs, "s1", path, CHECKS).subjects == 4
    return path


@pytest.mark.parametrize("kind", ["", "vectors:"])
def test_a_file_does_not_say_where_its_writer_keeps_the_surrogate(tmp_path: Path, kind: str) -> None:
    store = filled(tmp_path / "theirs", "sst2")
    surrogate = f"{kind}{tmp_path}/models/tiny"
    settings = json.dumps({"surrogate": {"model": surrogate, "layer": 2}, "method": {"method": "crosscov"}})
    space = {**space_row("s2"), "surrogate": surrogate, "settings": settings}
    VectorStore(store).put_space(space, Stamp())
    VectorStore(store).put({**embedding_row("sst2", "m", space="s2"), **space}, TaskEmbedding(vector(0), {}), Stamp())
    path = tmp_path / "theirs.parquet"
    write_file_of(store, "s2", path, CHECKS)
    told = json.loads(pq.read_schema(path).metadata[CARD_KEY])
    assert told["surrogate"] == f"{kind}tiny"
    assert json.loads(told["settings"])["surrogate"] == {"model": f"{kind}tiny", "layer": 2}
    assert str(tmp_path).encode() not in path.read_bytes()


def take(store: Store, file: Path, origin: str = "acme", checks: np.ndarray = CHECKS) -> Imported:
    return read_file_of(store, file, origin, lambda _: checks)


def test_imported_subjects_are_found_and_say_where_they_are_from(ours: Store, theirs: Store, file: Path) -> None:
    assert take(ours, file) == ("s1", 4, 0)
    assert take(ours, file) == ("s1", 4, 4)
    kept = {(e.kind, e.subject): e for e in VectorStore(ours).population("s1")}
    for sent in VectorStore(theirs).population("s1"):
        came = kept[sent.kind, f"acme/{sent.subject}"]
        np.testing.assert_allclose(came.vector, sent.vector / np.linalg.norm(sent.vector), rtol=1e-6)
        assert came.imported
        assert came.metrics == {UNRELATED: 0.25}
    assert not kept["model", "tickets"].imported
    assert "acme/sst2" in {row["candidate"] for row in nearest(ours, "tickets", 5, kind="model")}
    query = "SELECT provenance->'imported'->>'from' FROM datasets WHERE id = 'acme/sst2'"
    assert catalog.query(ours.root, query).rows == [("acme",)]


def test_what_was_imported_is_neither_judged_nor_sent_on(ours: Store, file: Path, tmp_path: Path) -> None:
    take(ours, file)
    vectors = VectorStore(ours)
    ((dataset, models),) = missing_accuracies(ours, vectors.space("s1"), vectors.population("s1"))
    assert (dataset.subject, [m.subject for m in models]) == ("tickets", ["tickets"])
    assert write_file_of(ours, "s1", tmp_path / "on.parquet", CHECKS).subjects == 2


def test_only_the_subjects_that_are_named_travel(theirs: Store, tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    write_file_of(theirs, "s1", path, CHECKS, ["trec"])
    assert {r["subject"] for r in pq.read_table(path).to_pylist() if r["kind"] != "check"} == {"trec"}
    with pytest.raises(NotInStoreError, match="no 'trek' .* did you mean 'trec'"):
        write_file_of(theirs, "s1", path, CHECKS, ["trek"])


def test_a_space_of_other_vectors_is_refused(ours: Store, file: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="another space than s1 is here.*cosine of"):
        take(ours, file, checks=CHECKS[::-1])
    with pytest.raises(StoreError, match="it has other checks"):
        take(ours, file, checks=CHECKS[:, :3])
    with pytest.raises(NotInStoreError, match="surrogate tiny over pool p makes it"):
        take(Store(tmp_path / "empty"), file)
    assert len(VectorStore(ours).population("s1")) == 2


def test_a_subject_of_the_store_is_not_written_over(tmp_path: Path, file: Path) -> None:
    with pytest.raises(StoreError, match="has a dataset acme/sst2 of its own"):
        take(filled(tmp_path / "taken", "acme/sst2"), file)
    with pytest.raises(StoreError, match="--as '../x'"):
        take(filled(tmp_path / "other"), file, origin="../x")


def forged(file: Path, change: Callable[[list[dict[str, object]]], object], *, honest: bool = False) -> Path:
    """The file with other rows, and a digest that fits unless it is to be honest."""
    table = pq.read_table(file)
    rows = table.to_pylist()
    change(rows)
    schema = table.schema.remove_metadata()
    card = json.loads(table.schema.metadata[CARD_KEY])
    digest = card.pop("digest")
    made = pa.Table.from_pylist(rows, schema)
    card["digest"] = digest if honest else _digest(made, card)
    write_sealed(made.replace_schema_metadata({CARD_KEY: json.dumps(card).encode()}), file, "")
    return file


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows.insert(1, rows[0]), "the dataset sst2 twice"),
        (lambda rows: rows[0].update(kind="prompt"), "'prompt' 'sst2', which is no kind"),
        (lambda rows: rows[0].update(subject="a\nb"), "no kind and name"),
        (lambda rows: rows[0].update(subject_fingerprint="a/b"), "has no version"),
        (lambda rows: rows[0].update(unrelated_p=2.0), "a p-value that is none"),
        (lambda rows: rows[0].update(vector=[float("nan")] * 4), "zero or not finite"),
        (lambda rows: rows[0].update(vector=[0.0] * 4), "zero or not finite"),
        (lambda rows: rows[0].update(vector=[1.0] * 3), "of several lengths"),
        (lambda rows: rows[0].update(vector=None), "of several lengths, or gaps"),
        (lambda rows: rows.pop(), "it has other checks"),
    ],
)
def test_rows_that_no_space_holds_are_refused(
    ours: Store, file: Path, change: Callable[[list[dict[str, object]]], object], told: str
) -> None:
    with pytest.raises(StoreError, match=told):
        take(ours, forged(file, change))
    assert len(VectorStore(ours).population("s1")) == 2


def test_a_changed_file_and_rubbish_are_refused(ours: Store, file: Path, tmp_path: Path) -> None:
    changed = forged(file, lambda rows: rows[0].update(task="another"), honest=True)
    with pytest.raises(StoreError, match="changed after it was exported"):
        take(ours, changed)
    table = pq.read_table(file)
    rows = [{**row, "unrelated_p": float("nan")} for row in table.to_pylist()]
    write_sealed(pa.Table.from_pylist(rows, table.schema), file, "")
    with pytest.raises(StoreError, match="changed after it was exported"):
        take(ours, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="no whole file of `fute export`"):
        take(ours, file)
    rubbish = tmp_path / "rubbish.parquet"
    rubbish.write_bytes(b"not a file of anybody" * 100)
    with pytest.raises(StoreError, match="no whole file of `fute export`"):
        take(ours, rubbish)
    write_sealed(pa.table({"a": [1]}), rubbish, "")
    with pytest.raises(StoreError, match="has no card of a space"):
        take(ours, rubbish)
