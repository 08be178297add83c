"""Full disks, torn and foreign files, a clock that goes back: what the store does, piece by piece."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from fute.errors import StoreError
from fute.llm.types import Answer, ChatRequest, Message
from fute.types import Dataset, Outputs, Pool, Split, TaskEmbedding, TextTable
from storage import catalog, files
from storage.responses import LEDGER, ResponseStore
from storage.store import Store
from storage.vectors import VectorStore
from tests.mounts import read_only, small_disk
from tests.storage.small_store import ranked
from tests.storage.test_store import STAMP, embedding_row, space_row


def dataset() -> Dataset:
    train = Split(TextTable(["warm soup", "cold soup"]), np.array([0, 1]))
    return Dataset("soups", "classification", {"train": train}, "f1", ("good", "bad"), {}, {})


def fill(root: Path) -> tuple[Store, VectorStore]:
    """One of everything."""
    store = Store(root)
    vectors = VectorStore(store)
    pool = Pool(TextTable(["a text", "another"]), ["one", "two"], {})
    store.put_pool(pool, STAMP)
    store.put_dataset(dataset(), family=None, stamp=STAMP)
    store.put_model({"ref": "m@1", "id": "m"}, STAMP, lambda _: {"score": 0.5})
    store.put_outputs(pool.id, "m@1", Outputs("scores", np.eye(2, dtype=np.float32)), STAMP)
    vectors.put_space(space_row(), STAMP)
    put(vectors, "m", "e1", [1, 0])
    vectors.put_ranking("s1", "n1", neighbors("first"), vectors.population("s1"), None, STAMP)
    return store, vectors


def put(vectors: VectorStore, subject: str, fingerprint: str, vector: list[float]) -> None:
    vectors.put(embedding_row(subject, fingerprint), TaskEmbedding(np.array(vector, dtype=np.float32)), STAMP)


def neighbors(candidate: str) -> pa.Table:
    row = {"space": "s1", "query": "m", "query_kind": "model", "candidate": candidate, "candidate_kind": "model",
           "rank": 1, "similarity": 0.5}  # fmt: skip
    return ranked(row)


def asked(text: str) -> ChatRequest:
    return ChatRequest("service", "http://h/v1", "m", (Message("user", text),))


def keep(folder: Path, *texts: str) -> ResponseStore:
    """A ledger that was put answers into, and is open."""
    store = ResponseStore(folder)
    for text in texts:
        store.put(asked(text), Answer(text))
    return store


def pool_id(store: Store) -> str:
    return next((store.root / "pools").glob("*.parquet")).stem


# ------------------------------------------------------------------------------------------------------- a full disk


def test_a_full_disk_is_told_at_every_door_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, vectors = fill(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.pq, "write_table", full)
    monkeypatch.setattr(np, "save", full)
    other = Dataset("teas", "classification", dataset().splits, "f2", ("good", "bad"), {}, {})
    doors: list[Callable[[], object]] = [
        lambda: store.put_dataset(other, family=None, stamp=STAMP),
        lambda: store.put_model({"ref": "m@2", "id": "m"}, STAMP),
        lambda: store.put_outputs("p", "m@2", Outputs("scores", np.eye(2, dtype=np.float32)), STAMP),
        lambda: put(vectors, "m", "e2", [0, 1]),
        lambda: vectors.put_ranking("s1", "n2", neighbors("second"), [], None, STAMP),
        lambda: store.cached_features("s", lambda table: np.ones((len(table), 2), np.float32))(TextTable(["x"])),
    ]
    for door in doors:
        with pytest.raises(StoreError, match=r"could not be written \(No space left on device\); free disk space"):
            door()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")} == before
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "write",
    [
        lambda path, numbers: np.save(path.open("wb"), numbers),
        lambda path, numbers: numbers.tofile(path),
        lambda path, numbers: np.savez(path.open("wb"), numbers=numbers),
        lambda path, numbers: save_file({"numbers": numbers}, path),
        lambda path, numbers: pq.write_table(pa.table({"numbers": numbers}), path),
        lambda path, numbers: path.write_bytes(numbers.tobytes()),
    ],
    ids=["save", "tofile", "savez", "safetensors", "parquet", "bytes"],
)
def test_a_disk_that_is_really_full_is_told_whatever_library_writes(
    tmp_path: Path, write: Callable[[Path, np.ndarray], object]
) -> None:
    noise = np.random.default_rng(0).random(500_000)
    with small_disk(tmp_path, megabytes=1):
        scratch = files.Scratch(tmp_path)
        with pytest.raises(StoreError, match=r"target could not be written \(No space left on device\); free disk"):
            files.write_file(scratch, tmp_path / "target", lambda path: write(path, noise))
        with pytest.raises(StoreError, match=r"folder could not be written \(No space left on device\); free disk"):
            files.write_folder(scratch, tmp_path / "folder", lambda path: write(path / "a", noise))
        assert list((tmp_path / "tmp").iterdir()) == []


def test_on_a_disk_that_is_really_full_what_was_stored_stays_and_the_next_write_works_when_there_is_space(
    tmp_path: Path,
) -> None:
    root = tmp_path / "store"
    root.mkdir()
    noise = Outputs("scores", np.random.default_rng(0).random((100_000, 4), dtype=np.float32))  # 2 MB and more
    with small_disk(root, megabytes=4):
        store = Store(root)
        store.put_outputs("p", "m@0", noise, STAMP)
        with pytest.raises(StoreError, match=r"m@1\.parquet could not be written .*free disk space"):
            store.put_outputs("p", "m@1", noise, STAMP)
        assert list((root / "tmp").iterdir()) == []
        assert store.outputs("p", "m@0").fingerprint == noise.fingerprint
        store.outputs_path("p", "m@0").unlink()
        store.put_outputs("p", "m@0", noise, STAMP)
        assert store.outputs("p", "m@0").fingerprint == noise.fingerprint


def test_a_store_without_write_permission_can_be_read_and_says_that_it_cannot_be_written(tmp_path: Path) -> None:
    store, vectors = fill(tmp_path)
    running = keep(tmp_path / "responses", "one", "two")
    running.export()
    child = os.fork()
    if child == 0:
        keep(tmp_path / "responses", "three")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with read_only(tmp_path):
        assert len(vectors.population("s1")) == 1
        assert catalog.query(tmp_path, "SELECT count(*) FROM embeddings").rows == [(1,)]
        assert catalog.query(tmp_path, "SELECT answer FROM responses ORDER BY 1").rows == [
            ("one",), ("three",), ("two",)
        ]  # fmt: skip
        assert ResponseStore(tmp_path / "responses").get(asked("three").key) == Answer("three")
        with pytest.raises(StoreError, match=r"answers\.sqlite: an answer could not be kept \(no write permission\)"):
            keep(tmp_path / "responses", "four")
        with pytest.raises(StoreError, match="no write permission, so no answer could be kept; nothing is asked"):
            ResponseStore(tmp_path / "responses").claim(asked("four").key)
        for write in (lambda: put(vectors, "m", "e2", [0, 1]),
                      lambda: store.put_model({"ref": "m@2", "id": "m"}, STAMP)):  # fmt: skip
            with pytest.raises(StoreError, match=r"\(Read-only file system\); get write permission"):
                write()


def test_answers_are_read_without_write_permission_while_their_writers_come_and_go(tmp_path: Path) -> None:
    folder, view = tmp_path / "store" / "responses", tmp_path / "view"
    folder.mkdir(parents=True)
    view.mkdir()
    with read_only(tmp_path / "store", at=view):
        reader, count = ResponseStore(view / "responses"), 0
        for text in ("one", "two"):
            writer = keep(folder, text)
            for more in (f"{text} more", f"{text} once more"):  # seen at once, while there is a log
                writer.put(asked(more), Answer(more))
                assert ResponseStore(view / "responses").get(asked(more).key) == Answer(more)
            count += 3
            assert catalog.query(view, "SELECT count(*) FROM responses").rows == [(count,)]
            writer.close()
            assert sorted(path.name for path in folder.glob(f"{LEDGER}*")) == [LEDGER]
            assert catalog.query(view, "SELECT count(*) FROM responses").rows == [(count,)]
            assert reader.get(asked(text).key) == Answer(text)
            assert writer.export() == 3
            assert reader.get(asked(text).key) == Answer(text)
            assert catalog.query(view, "SELECT count(*) FROM responses").rows == [(count,)]
        assert sorted(path.name for path in folder.glob(f"{LEDGER}*")) == [LEDGER]


# ---------------------------------------------------------------------------------------- torn files, foreign files


def halve(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def test_a_torn_file_is_named_and_written_again_once_it_is_deleted(tmp_path: Path) -> None:
    store, vectors = fill(tmp_path)
    pool = pool_id(store)
    cases: list[tuple[Path, Callable[[], object]]] = [
        (store.pool_path(pool), lambda: store.pool(pool)),
        (store.outputs_path(pool, "m@1"), lambda: store.outputs(pool, "m@1")),
        (store.model_folder("m@1") / "card.parquet", lambda: store.model_card("m@1")),
        (store.dataset_folder("soups@f1") / "train.parquet", lambda: store.dataset("soups@f1")),
        (vectors.path("s1", "model", "e1"), lambda: vectors.population("s1")),
        (tmp_path / "spaces" / "s1.parquet", lambda: vectors.spaces()),
        (tmp_path / "neighbors" / "space=s1" / "n1.parquet", lambda: vectors.neighbors("s1")),
    ]
    for path, read in cases:
        halve(path)
        with pytest.raises(StoreError) as told:
            read()
        assert str(path) in str(told.value)
        assert "delete" in str(told.value)
        if path.parent.parent.name == "datasets":
            assert f"delete its folder {path.parent}" in str(told.value)
            shutil.rmtree(path.parent)
        else:
            path.unlink()
        fill(tmp_path)  # as the next run does
        assert path.is_file(), path
        read()


def test_a_dataset_or_model_without_its_card_is_made_again(tmp_path: Path) -> None:
    store, _ = fill(tmp_path)
    for folder in (store.dataset_folder("soups@f1"), store.model_folder("m@1")):
        (folder / "card.parquet").unlink()
        fill(tmp_path)
        assert (folder / "card.parquet").is_file()
    assert list(store.dataset("soups@f1").train.inputs.texts) == ["warm soup", "cold soup"]
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", [".DS_Store", "notes.txt", "e1.parquet.bak", "e1.parquet.tmp", "folder.d/x.txt"])
def test_foreign_files_of_other_names_are_not_looked_at(tmp_path: Path, name: str) -> None:
    _, vectors = fill(tmp_path)
    for folder in ("embeddings/space=s1/kind=model", "neighbors/space=s1", "outputs", "models", "datasets", "runs"):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not ours")
    assert len(vectors.population("s1")) == 1
    assert len(vectors.neighbors("s1")) == 1
    assert catalog.query(tmp_path, "SELECT count(*) FROM embeddings").rows == [(1,)]


def test_a_foreign_parquet_file_among_ours_is_named(tmp_path: Path) -> None:
    _, vectors = fill(tmp_path)
    path = vectors.path("s1", "model", "foreign")
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(StoreError, match=r"foreign\.parquet was not written by fute; move it out"):
        vectors.population("s1")


def test_what_killed_writers_left_is_swept_after_a_week_and_what_is_being_written_stays(tmp_path: Path) -> None:
    scratch = files.Scratch(tmp_path)
    killed, training = scratch.path(), scratch.path()
    for folder in (killed, training):
        (folder / "weights").mkdir(parents=True)
        (folder / "weights" / "model.safetensors").write_text("half")
    (scratch.root / "half a file").write_text("half a file")
    for path, days in ((killed, 8), (scratch.root / "half a file", 8), (training, 5)):
        os.utime(path, (time.time() - days * 24 * 3600,) * 2)
    scratch.sweep()
    assert [path.name for path in scratch.root.iterdir()] == [training.name]
    assert (training / "weights" / "model.safetensors").exists()
