"""Folding small files of embeddings, and removing them: nothing is lost, and nothing is seen twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fute.errors import StoreError
from fute.types import TaskEmbedding
from storage import catalog, compaction, fold_kinds, folding, nearest, nearest_index, removal
from storage.folded_embeddings import FoldedEmbeddings
from storage.folding import files_of, parts_of
from storage.schema_version import CURRENT, stored_version
from storage.stamp import Stamp
from storage.store import Store
from storage.turns import Turn
from storage.vectors import VectorStore
from tests.storage.small_store import FOLDER, fingerprints, fold, vector, write
from tests.storage.test_store import embedding_row


def test_folded_embeddings_are_found_as_before(tmp_path: Path) -> None:
    store = write(tmp_path, range(30))
    before = catalog.query(tmp_path, "SELECT * FROM embeddings ORDER BY fingerprint")
    fold(store)
    assert [p.name for p in (tmp_path / FOLDER).glob("*.parquet")] == []
    assert len(list((tmp_path / FOLDER / "folded").iterdir())) == 1
    assert catalog.query(tmp_path, "SELECT * FROM embeddings ORDER BY fingerprint") == before
    vectors = VectorStore(store)
    assert vectors.has("s1", "model", "e0007")
    assert not vectors.has("s1", "model", "e0030")
    np.testing.assert_array_equal(vectors.get("s1", "model", "e0007").vector, vector(7))
    assert vectors.get("s1", "model", "e0007").row["run_id"] == "run"
    assert [e.subject for e in vectors.population("s1")] == sorted(f"m{i}" for i in range(30))
    assert stored_version(tmp_path) == CURRENT


def test_what_is_folded_is_not_written_again(tmp_path: Path) -> None:
    store = write(tmp_path, range(4))
    fold(store)
    write(tmp_path, range(5))
    assert [p.name for p in (tmp_path / FOLDER).glob("*.parquet")] == ["e0004.parquet"]


def test_parts_stay_below_their_size_and_small_ones_are_folded_again(tmp_path: Path) -> None:
    store = write(tmp_path, range(25))
    room = 10 * (4 * 4 + compaction.ROW_BYTES)
    fold(store, part_bytes=room)
    assert len(files_of(tmp_path / FOLDER).parts) == 3  # 10, 10 and 5
    write(tmp_path, range(25, 29))
    fold(store, part_bytes=room)
    assert len(files_of(tmp_path / FOLDER).live) == 3
    assert fingerprints(tmp_path) == [f"e{i:04d}" for i in range(29)]


def test_few_files_are_left_alone(tmp_path: Path) -> None:
    store = write(tmp_path, range(3))
    fold(store, min_files=4)
    assert len(list((tmp_path / FOLDER).glob("*.parquet"))) == 3
    assert stored_version(tmp_path) == 1  # an earlier fute reads it still


def test_folded_files_wait_for_readers_and_count_once_meanwhile(tmp_path: Path) -> None:
    store = write(tmp_path, range(6))
    fold(store, grace_s=1000)
    assert len(list((tmp_path / FOLDER).glob("*.parquet"))) == 6
    assert fingerprints(tmp_path) == [f"e{i:04d}" for i in range(6)]
    assert len(VectorStore(store).population("s1")) == 6
    # Folded again before the first removal: what waits is still hidden, and removed with the rest.
    write(tmp_path, range(6, 9))
    fold(store, grace_s=1000)
    assert fingerprints(tmp_path) == [f"e{i:04d}" for i in range(9)]
    fold(store)
    assert [p.suffix for p in (tmp_path / FOLDER).rglob("*.*")] == [".parquet"]
    assert fingerprints(tmp_path) == [f"e{i:04d}" for i in range(9)]


def test_the_version_used_last_counts_through_folding(tmp_path: Path) -> None:
    store = Store(tmp_path)
    vectors = VectorStore(store)
    for i, fingerprint in enumerate(("first", "second", "third")):
        vectors.put(embedding_row("m", fingerprint), TaskEmbedding(vector(i)), Stamp())
    vectors.put(embedding_row("alone", "alone"), TaskEmbedding(vector(9)), Stamp())

    def counts() -> str:
        return next(e.fingerprint for e in vectors.population("s1") if e.subject == "m")

    vectors.touch("s1", "model", "second")
    fold(store)
    assert counts() == "second"
    vectors.touch("s1", "model", "alone")
    vectors.touch("s1", "model", "first")
    assert counts() == "first"
    # Only where there is something to choose is a mark left.
    assert [p.name for p in (tmp_path / FOLDER / "used").iterdir()] == ["first"]
    vectors.put(embedding_row("m", "fourth"), TaskEmbedding(vector(4)), Stamp())
    assert counts() == "fourth"
    vectors.touch("s1", "model", "third")
    fold(store)
    assert counts() == "third"


def test_a_use_between_folding_and_removal_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    vectors = VectorStore(store)
    for i, fingerprint in enumerate(("old", "new")):
        vectors.put(embedding_row("m", fingerprint), TaskEmbedding(vector(i)), Stamp())
    fold(store, grace_s=1000)
    vectors.touch("s1", "model", "old")
    fold(store)
    assert [e.fingerprint for e in vectors.population("s1")] == ["old"]


def test_many_embeddings_are_written_as_one_file_and_only_once(tmp_path: Path) -> None:
    store = write(tmp_path, range(2))
    vectors = VectorStore(store)
    rows = [embedding_row(f"m{i}", f"e{i:04d}") for i in range(50)]
    embeddings = [TaskEmbedding(vector(i), {"loss": float(i)}) for i in range(50)]
    for _ in range(2):
        vectors.put_many(rows, embeddings, Stamp("batch"))
    assert len(files_of(tmp_path / FOLDER).live) == 3
    assert fingerprints(tmp_path) == [f"e{i:04d}" for i in range(50)]
    assert vectors.get("s1", "model", "e0040").row["metrics"] == '{"loss": 40.0}'
    assert vectors.get("s1", "model", "e0001").row["run_id"] == "run"
    with pytest.raises(StoreError, match="several|spaces and kinds"):
        vectors.put_many([rows[0], embedding_row("d", "x", "dataset")], embeddings[:2], Stamp())
    with pytest.raises(StoreError, match="compare as NaN"):
        vectors.put_many([embedding_row("z", "z")], [TaskEmbedding(np.zeros(4, np.float32))], Stamp())


def test_a_damaged_file_is_told_and_left_and_the_others_are_folded(tmp_path: Path) -> None:
    store = write(tmp_path, range(5))
    torn = tmp_path / FOLDER / "torn.parquet"
    torn.write_bytes(b"PAR1 half")
    done = compaction.fold(store, tmp_path / FOLDER, fold_kinds.KINDS[0], min_files=2)
    assert (done.files, done.parts, len(done.faults)) == (5, 1, 1)
    assert "torn.parquet" in done.faults[0]
    assert torn.exists()


def test_nothing_is_removed_for_a_part_that_cannot_be_read(tmp_path: Path) -> None:
    store = write(tmp_path, range(5))
    fold(store, grace_s=1000)
    (part,) = files_of(tmp_path / FOLDER).parts
    content = bytearray(part.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    content[4:-footer] = bytes(len(content) - footer - 4)
    part.write_bytes(content)
    done = removal.remove_folded(store, tmp_path / FOLDER, fold_kinds.Folded(FOLDER), 0.0)
    assert "damaged" in done.faults[0]
    assert len(list((tmp_path / FOLDER).glob("*.parquet"))) == 5
    # Nor is it folded into another, by which what it was made of would be lost.
    write(tmp_path, range(5, 9))
    done = compaction.fold(store, tmp_path / FOLDER, fold_kinds.KINDS[0], min_files=2)
    assert part.name in done.faults[0]
    done = removal.remove_folded(store, tmp_path / FOLDER, fold_kinds.Folded(FOLDER), 0.0)
    assert (done.removed, len(done.faults)) == (4, 1)
    assert len(list((tmp_path / FOLDER).glob("*.parquet"))) == 5
    part.unlink()  # as the message says
    part.with_suffix(".replaces").unlink()
    assert fingerprints(tmp_path) == [f"e{i:04d}" for i in range(9)]


def test_runs_and_drift_checks_are_folded_once_they_are_settled(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for i in range(5):
        store.put_run({"study": "s", "flow": "embed", "state": "Completed", "seconds": float(i)}, Stamp(None, f"f{i}"))
    before = catalog.query(tmp_path, "SELECT * FROM runs ORDER BY ALL")
    kind = next(k for k in fold_kinds.KINDS if k.glob == "runs")
    assert compaction.fold(store, tmp_path / "runs", kind, min_files=2).parts == 0  # a retry may write them again
    for path in (tmp_path / "runs").glob("*.parquet"):
        os.utime(path, (time.time() - 2 * kind.settled_s,) * 2)
    done = compaction.fold(store, tmp_path / "runs", kind, min_files=2)
    assert catalog.query(tmp_path, "SELECT * FROM runs ORDER BY ALL") == before
    assert removal.remove_folded(store, tmp_path / "runs", done, 0.0).removed == 5
    assert catalog.query(tmp_path, "SELECT * FROM runs ORDER BY ALL") == before


def test_one_folder_is_folded_by_one_process_at_a_time(tmp_path: Path) -> None:
    store = write(tmp_path, range(5))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        from storage.claims import claims_at

        os.write(writer, b"1" if claims_at(tmp_path / "maintenance.claims").claim(f"fold {FOLDER}") else b"0")
        time.sleep(60)
        os._exit(0)
    try:
        assert os.read(reader, 1) == b"1"
        done = compaction.fold(store, tmp_path / FOLDER, fold_kinds.KINDS[0], min_files=2)
        assert done.parts == 0
        assert "another process" in done.faults[0]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert compaction.fold(store, tmp_path / FOLDER, fold_kinds.KINDS[0], min_files=2).parts == 1


# ------------------------------------------------------------------------------- written twice, foreign, damaged


ROOM_FOR_4 = 4 * (4 * 4 + compaction.ROW_BYTES)


@pytest.fixture
def raced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Store]:
    """Write embeddings that are there already, as a writer does that has looked before they were."""

    def write_again(numbers: range, *, together: bool, subject: str | None = None) -> Store:
        vectors = VectorStore(Store(tmp_path))
        rows = [embedding_row(subject or f"m{i}", f"e{i:04d}") for i in numbers]
        with monkeypatch.context() as patch:
            patch.setattr(VectorStore, "has", lambda *_: False)
            patch.setattr(FoldedEmbeddings, "known", lambda *_: set())
            if together:
                vectors.put_many(rows, [TaskEmbedding(vector(i)) for i in numbers], Stamp())
            else:
                for row, i in zip(rows, numbers, strict=True):
                    vectors.put(row, TaskEmbedding(vector(i)), Stamp())
        return vectors.store

    return write_again


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("numbers", "of"), [(range(1, 3), 4), (range(1, 2), 4), (range(2, 6), 6), (range(4), 4)])
def test_what_was_written_twice_is_seen_once_after_the_next_folding(
    tmp_path: Path, raced: Callable[..., Store], together: bool, numbers: range, of: int
) -> None:
    fold(write(tmp_path, range(4)), part_bytes=ROOM_FOR_4)  # a part that is not folded again
    store = raced(numbers, together=together)
    expected = [f"e{i:04d}" for i in range(of)]
    assert len(fingerprints(tmp_path)) > len(expected)
    fold(store, min_files=100, part_bytes=ROOM_FOR_4, grace_s=1000)
    assert fingerprints(tmp_path) == expected
    fold(store, min_files=100, part_bytes=ROOM_FOR_4)
    assert fingerprints(tmp_path) == expected
    assert list((tmp_path / FOLDER).glob("*.parquet")) == []
    assert list((tmp_path / FOLDER / "folded").glob("*.replaces")) == []
    assert fold_again(store).files == 0


def fold_again(store: Store) -> fold_kinds.Folded:
    return compaction.fold(store, store.root / FOLDER, fold_kinds.KINDS[0], part_bytes=ROOM_FOR_4, min_files=100)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("large", [True, False])
def test_of_what_was_written_twice_the_later_use_is_kept(
    tmp_path: Path, raced: Callable[..., Store], together: bool, large: bool
) -> None:
    store = raced(range(4), together=False, subject="m")
    options = {"part_bytes": ROOM_FOR_4} if large else {}
    fold(store, **options)
    raced(range(1, 2), together=together, subject="m")
    for _ in range(2):
        assert [e.fingerprint for e in VectorStore(store).population("s1")] == ["e0001"]
        fold(store, **options)
    assert fingerprints(tmp_path) == [f"e{i:04d}" for i in range(4)]


def test_a_file_is_kept_as_long_as_its_rows_stand_in_no_part_that_counts(tmp_path: Path) -> None:
    store = write(tmp_path, range(6))
    fold(store, grace_s=1000)
    (part,) = files_of(tmp_path / FOLDER).parts
    with part.with_suffix(".replaces").open("a") as named:
        named.write("e0006.parquet\n")
    write(tmp_path, range(6, 7))
    path = VectorStore(store).path("s1", "model", "e0006")
    done = removal.remove_folded(store, tmp_path / FOLDER, fold_kinds.Folded(FOLDER), 0.0)
    assert (done.removed, len(done.faults)) == (6, 1)
    assert "e0006.parquet: not all of it stands in another file" in done.faults[0]
    assert path.exists()


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = pq.read_table(path, partitioning=None)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def test_files_of_an_earlier_fute_are_folded_with_the_others_and_those_of_a_later_one_are_named(tmp_path: Path) -> None:
    store = write(tmp_path, range(6))
    vectors = VectorStore(store)
    earlier, later = (vectors.path("s1", "model", f"e000{i}") for i in (0, 1))
    rewritten(earlier, lambda table: table.drop_columns(["git_commit"]))
    rewritten(later, lambda table: table.append_column("mood", pa.array(["good"])))
    done = compaction.fold(store, tmp_path / FOLDER, fold_kinds.KINDS[0], min_files=2)
    assert (done.files, done.faults) == (5, [
        f"{FOLDER}/e0001.parquet: it has columns that this fute does not know (mood); fold with a later fute"
    ])  # fmt: skip
    found = catalog.query(tmp_path, "SELECT fingerprint, git_commit IS NULL FROM embeddings ORDER BY 1").rows
    assert found == [(f"e000{i}", i == 0) for i in range(6)]


def test_a_file_with_vectors_of_another_length_is_named_though_it_comes_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    VectorStore(store).put(embedding_row("foreign", "a"), TaskEmbedding(vector(0, dim=7)), Stamp())
    write(tmp_path, range(4))
    done = compaction.fold(store, tmp_path / FOLDER, fold_kinds.KINDS[0], min_files=2)
    assert done.faults == [f"{FOLDER}/a.parquet: its vectors have 7 numbers, and most here 4; move it out of the store"]
    assert (done.files, done.parts) == (4, 1)


def test_a_part_that_is_torn_is_named_by_who_reads_it_and_the_others_are_folded(tmp_path: Path) -> None:
    store = write(tmp_path, range(4))
    fold(store, part_bytes=ROOM_FOR_4)
    (torn,) = files_of(tmp_path / FOLDER).parts
    torn.write_bytes(torn.read_bytes()[:-100])
    write(tmp_path / "other", range(4, 8))
    for path in (tmp_path / "other" / FOLDER).glob("*.parquet"):
        path.rename(tmp_path / FOLDER / path.name)
    done = compaction.fold(store, tmp_path / FOLDER, fold_kinds.KINDS[0], min_files=2)
    assert (done.files, len(done.faults)) == (4, 1)
    assert done.faults[0].startswith(f"{FOLDER}/folded/{torn.name}: ")
    vectors, folded = VectorStore(store), VectorStore(store).folded("s1", "model")
    readers: list[Callable[[], object]] = [
        lambda: vectors.has("s1", "model", "e0001"),
        lambda: folded.known(pa.array(["e0001"])),
        lambda: vectors.population("s1"),
        lambda: nearest_index.count_rows(files_of(tmp_path / FOLDER).live),
        lambda: nearest.nearest(store, "m5"),
    ]
    for read in readers:
        with pytest.raises(StoreError, match=torn.name):
            read()


def without_vectors(part: Path) -> None:
    """Damage the vectors of a part, and nothing else."""
    metadata = pq.read_metadata(part)
    for g in range(metadata.num_row_groups):
        columns = [metadata.row_group(g).column(c) for c in range(metadata.row_group(g).num_columns)]
        for column in columns:
            if column.path_in_schema.startswith("vector"):
                with part.open("r+b") as file:
                    file.seek(min(column.dictionary_page_offset or column.data_page_offset, column.data_page_offset))
                    file.write(b"\xff" * column.total_compressed_size)


@pytest.mark.parametrize("used", [True, False])
def test_nothing_is_left_to_a_part_that_cannot_be_read_from_end_to_end(
    tmp_path: Path, raced: Callable[..., Store], used: bool
) -> None:
    store = write(tmp_path, range(4))
    fold(store, part_bytes=ROOM_FOR_4)
    (part,) = files_of(tmp_path / FOLDER).parts
    raced(range(1, 3), together=False)
    write(tmp_path, range(4, 6))
    if not used:  # later than in the part
        for path in files_of(tmp_path / FOLDER).singles:
            os.utime(path, (1.0, 1.0))
    without_vectors(part)
    for folded in (4, 0):  # and the next maintenance, which finds nothing new
        done = compaction.fold(store, tmp_path / FOLDER, fold_kinds.KINDS[0], part_bytes=ROOM_FOR_4, min_files=2)
        assert (done.files, len(done.faults)) == (folded, 1)
        assert done.faults[0].startswith(f"{FOLDER}/folded/{part.name}: ")
        removal.remove_folded(store, tmp_path / FOLDER, fold_kinds.Folded(FOLDER), 0.0)
    part.unlink()  # as the message says
    found = {e.fingerprint: e.vector for e in VectorStore(store).population("s1")}
    assert sorted(found) == ["e0001", "e0002", "e0004", "e0005"]
    np.testing.assert_array_equal(found["e0001"], vector(1))


def test_nothing_is_removed_for_a_part_that_was_damaged_after_rows_were_left_to_it(
    tmp_path: Path, raced: Callable[..., Store]
) -> None:
    store = write(tmp_path, range(4))
    fold(store, part_bytes=ROOM_FOR_4)
    (part,) = files_of(tmp_path / FOLDER).parts
    raced(range(1, 2), together=False)
    write(tmp_path, range(4, 6))
    compaction.fold(store, tmp_path / FOLDER, fold_kinds.KINDS[0], part_bytes=ROOM_FOR_4, min_files=2)
    without_vectors(part)
    done = removal.remove_folded(store, tmp_path / FOLDER, fold_kinds.Folded(FOLDER), 0.0)
    assert (done.removed, len(done.faults)) == (2, 1)
    assert "e0001.parquet: not all of it stands in another file" in done.faults[0]
    assert VectorStore(store).path("s1", "model", "e0001").exists()


def test_a_use_that_cannot_be_noted_beside_a_damaged_part_is_a_fault_and_stays_told(
    tmp_path: Path, raced: Callable[..., Store]
) -> None:
    store = raced(range(4), together=True, subject="m")
    (torn,) = files_of(tmp_path / FOLDER).parts
    raced(range(4, 8), together=True, subject="m")
    raced(range(5, 6), together=False, subject="m")
    raced(range(8, 10), together=False, subject="m")
    torn.write_bytes(torn.read_bytes()[:-100])
    done = compaction.fold(store, tmp_path / FOLDER, fold_kinds.KINDS[0], part_bytes=ROOM_FOR_4, min_files=2)
    assert (done.files, done.rows) == (3, 3)  # also the one that stands in a part already, for its time
    os.utime(VectorStore(store).path("s1", "model", "e0008"))  # used once more
    done = removal.remove_folded(store, tmp_path / FOLDER, fold_kinds.Folded(FOLDER), 0.0)
    assert (done.removed, len(done.faults)) == (2, 1)
    assert torn.name in done.faults[0]
    assert VectorStore(store).path("s1", "model", "e0008").exists()
    torn.unlink()  # as the message says
    done = removal.remove_folded(store, tmp_path / FOLDER, fold_kinds.Folded(FOLDER), 0.0)
    assert (done.removed, done.faults) == (1, [])
    assert [e.fingerprint for e in VectorStore(store).population("s1")] == ["e0008"]


def test_a_long_removal_renews_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write(tmp_path, range(10))
    fold(store, grace_s=1000)
    left: list[int] = []
    monkeypatch.setattr(removal, "REMOVED_AT_ONCE", 4)
    monkeypatch.setattr(Turn, "renew", lambda _: left.append(len(list((tmp_path / FOLDER).glob("*.parquet")))))
    fold(store)
    assert left == [10, 6, 2]


def test_a_look_for_a_folded_embedding_does_not_list_the_small_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold(write(tmp_path, range(4)), part_bytes=ROOM_FOR_4)
    store = write(tmp_path, range(4, 8))
    fold(store, part_bytes=ROOM_FOR_4, grace_s=1000)
    write(tmp_path, range(8, 12))
    assert parts_of(tmp_path / FOLDER) == files_of(tmp_path / FOLDER).parts
    listed: list[Path] = []

    def listdir(path: Path) -> list[str]:
        listed.append(path)
        return names_in(path)

    names_in = os.listdir
    monkeypatch.setattr(folding.os, "listdir", listdir)
    assert not VectorStore(store).has("s1", "model", "e0099")
    assert VectorStore(store).has("s1", "model", "e0007")
    assert listed != []
    assert set(listed) == {tmp_path / FOLDER / "folded"}


def test_a_list_may_name_only_files_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "folded").mkdir()
    (tmp_path / "folded" / "part.parquet").touch()
    named = ["a.parquet", "folded/b.parquet", "../outside.parquet", "/outside.parquet", "x/c.parquet"]
    (tmp_path / "folded" / "part.replaces").write_text("\n".join(named))
    (replaced,) = files_of(tmp_path).replaced.values()
    assert replaced == (tmp_path / "a.parquet", tmp_path / "folded" / "b.parquet")
