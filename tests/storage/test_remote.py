"""A store on object storage and its mirrors, over fsspec's file system in memory. The S3 protocol: tests/flows."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fute.errors import StoreError
from fute.llm.types import Answer, ChatRequest, Message
from fute.types import TaskEmbedding
from storage import remote, schemas
from storage.catalog import VIEWS
from storage.files import remove_file
from storage.responses import ResponseStore
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from tests.storage.small_store import FOLDER, fingerprints, fold, vector
from tests.storage.test_store import embedding_row

On = Callable[[str], Store]


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[On]:
    """The same store as it is seen on a machine of this name, pulled."""
    address = f"memory://bucket-{uuid.uuid4().hex}/team/store"
    fsspec.filesystem("memory").mkdir(address.partition("://")[2].partition("/")[0])

    def open_on(machine: str) -> Store:
        monkeypatch.setenv("FUTE_MIRROR", str(tmp_path / machine))
        return Store(address).pull()

    yield open_on
    fsspec.filesystem("memory").store.clear()


def put_model(store: Store, name: str) -> None:
    def train(folder: Path) -> dict[str, float]:
        folder.mkdir()
        (folder / "weights.bin").write_bytes(name.encode())
        return {"score": 0.5}

    row = {"ref": f"{name}@1", "id": name, "fingerprint": "1", "kind": "trained", "task": None, "settings": "{}"}
    store.put_model(row, Stamp(), train)


def there(store: Store) -> set[str]:
    """What object storage holds, below the store."""
    prefix = store.address.partition("://")[2]
    return {path.partition(prefix)[2][1:] for path in fsspec.filesystem("memory").find(f"/{prefix}")}


def prompts(store: Store) -> list[str]:
    return sorted(path.stem for path in (store.root / "prompts").glob("*.parquet"))


def test_what_one_machine_writes_another_finds_and_what_is_local_stays(on: On) -> None:
    a = on("a")
    put_model(a, "m")
    a.put_prompt({"id": "p", "template": "x"}, Stamp())
    a.put_report("page.html", "<p>")
    for local in ("features/s/t.npy", "mlflow.db", "responses/budgets.sqlite", "tmp/half"):
        (a.root / local).parent.mkdir(parents=True, exist_ok=True)
        (a.root / local).write_text("local")
    on("a")
    held = there(a)
    assert len(held) == 4
    assert {"models/m@1/card.parquet", "models/m@1/weights/weights.bin", "reports/page.html"} < held
    b = on("b")
    assert b.root != a.root
    assert (b.weights_folder("m@1") / "weights.bin").read_bytes() == b"m"
    assert b.model_card("m@1")["score"] == 0.5
    assert prompts(b) == prompts(a)
    assert not (b.root / "features").exists()


def test_every_view_reads_a_folder_that_is_mirrored() -> None:
    assert {view.glob.partition("/")[0] for view in VIEWS} <= set(remote.MIRRORED)


def test_a_pull_of_what_is_here_fetches_nothing(on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    put_model(on("a"), "m")
    b = on("b")
    monkeypatch.setattr(remote.Mirror, "_fetch", lambda self, wanted: pytest.fail(f"fetched {wanted}") if wanted else 0)
    b.pull()
    on("a")


def test_a_folder_that_is_being_uploaded_is_not_seen_yet(on: On) -> None:
    a = on("a")
    put_model(a, "m")
    prefix = a.address.partition("://")[2]
    fsspec.filesystem("memory").rm_file(f"/{prefix}/models/m@1/{remote.CARD}")
    b = on("b")
    assert not b.model_folder("m@1").exists()
    put_model(b, "m")  # made here, it takes the place of the half that is there
    assert on("c").has_model("m@1")


def test_what_could_not_be_sent_is_kept_and_sent_by_the_next_pull(on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    a = on("a")
    memory = fsspec.filesystem("memory")

    def broken(*_: object, **__: object) -> None:
        raise ConnectionResetError("no route")

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "put_file", broken)
        with pytest.raises(StoreError, match="cannot be uploaded; it stays in .*no route"):
            a.put_prompt({"id": "p", "template": "x"}, Stamp())
        with pytest.raises(StoreError, match="no route"):
            put_model(a, "m")
        with pytest.raises(StoreError, match="no route"):
            a.pull()
    assert there(a) == set()
    assert prompts(a)
    on("a")
    assert len(there(a)) == 3
    assert not list((a.root / "outbox").iterdir())


def test_a_killed_writer_leaves_a_note_of_what_is_to_be_sent(on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    a = on("a")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(remote.Mirror, "send", killed)
        with pytest.raises(KeyboardInterrupt):
            a.put_prompt({"id": "p", "template": "x"}, Stamp())
    (a.root / "outbox" / "half-written-note").write_text("")
    assert there(a) == set()
    on("a")
    assert len(there(a)) == 1


def test_a_note_of_what_never_came_is_dropped_after_a_day(on: On) -> None:
    a = on("a")
    assert a.mirror is not None
    names = ("runs/killed.parquet", "models/killed@1", "")  # the last was killed while it wrote the note
    for name in names:
        a.mirror.note(name)
    young = a.mirror.note("runs/about-to-come.parquet")
    a.pull()
    assert len(list(young.parent.iterdir())) == 4
    for note in young.parent.iterdir():
        if note != young:
            os.utime(note, (time.time() - 1.1 * remote.NOTE_KEPT_S,) * 2)
    put_model(a, "m")
    old = a.mirror.note("models/m@1")  # its model is here, however old the note is
    os.utime(old, (0, 0))
    fsspec.filesystem("memory").store.clear()
    a.pull()
    assert list(young.parent.iterdir()) == [young]
    assert "models/m@1/card.parquet" in there(a)


def after_each_listing(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """What another machine does when a pull has listed the files and fetched none: a step for each listing."""
    left, listing = list(steps), remote.Mirror._there

    def and_step(self: remote.Mirror) -> dict[str, remote.Version]:
        found = listing(self)
        if left:
            left.pop(0)()
        return found

    monkeypatch.setattr(remote.Mirror, "_there", and_step)


def count_fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are downloaded from now on."""
    fetched: list[str] = []
    memory = type(fsspec.filesystem("memory"))
    get_file = memory.get_file

    def counted(self: Any, source: str, *rest: Any, **options: Any) -> None:
        get_file(self, source, *rest, **options)
        fetched.append(source.rpartition("/")[2])

    monkeypatch.setattr(memory, "get_file", counted)
    return fetched


def test_files_deleted_elsewhere_during_a_pull_are_left_and_the_rest_is_fetched_once(
    on: On, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = on("a")
    put_model(a, "m")
    vectors = put_versions(a, "e1", "e2", "e3")

    def delete(name: str) -> None:
        remove_file(vectors.path("s1", "model", name))

    fetched = count_fetched(monkeypatch)
    after_each_listing(
        monkeypatch, lambda: (delete("e1"), put_versions(a, "e4", "e5")), lambda: delete("e5"), lambda: None
    )
    b = on("b")
    assert listed(b) == ["e2", "e3", "e4"]
    assert b.model_card("m@1")["score"] == 0.5
    assert len(fetched) == len(set(fetched)) == 5  # two of them the model's
    assert not (b.root / "tmp" / "pull").exists()


def test_what_a_pull_has_fetched_is_not_fetched_again_by_the_next_one(on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    put_versions(on("a"), "e1", "e2", "e3")
    memory = type(fsspec.filesystem("memory"))
    get_file = memory.get_file

    def missing(self: Any, source: str, *rest: Any, **options: Any) -> None:
        if source.endswith("e2.parquet"):  # listed, and not there however often it is asked for
            raise FileNotFoundError(source)
        get_file(self, source, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(memory, "get_file", missing)
        with pytest.raises(StoreError, match=r"1 of the files that it lists are not there, such as .*e2\.parquet"):
            on("b")
    fetched = count_fetched(monkeypatch)
    assert listed(on("b")) == ["e1", "e2", "e3"]
    assert fetched == ["e2.parquet"]


def test_a_file_deleted_on_one_machine_goes_on_the_others(on: On) -> None:
    a = on("a")
    for name in ("p", "q"):
        a.put_prompt({"id": name, "template": name}, Stamp())
    b = on("b")
    assert len(prompts(b)) == 2
    remove_file(next((a.root / "prompts").glob("*.parquet")))
    assert len(there(a)) == 1
    assert prompts(on("b")) == prompts(a)


def test_an_emptied_bucket_does_not_empty_the_mirror(on: On) -> None:
    a = on("a")
    a.put_prompt({"id": "p", "template": "x"}, Stamp())
    fsspec.filesystem("memory").store.clear()
    with pytest.raises(StoreError, match="is empty, but .* is not; was it emptied"):
        a.pull()
    assert prompts(a)


def put_versions(store: Store, *names: str) -> VectorStore:
    """Embeddings of one subject, a file each."""
    vectors = VectorStore(store)
    for i, name in enumerate(names):
        vectors.put(embedding_row("m", name), TaskEmbedding(vector(i)), Stamp())
    return vectors


def counts(store: Store) -> list[str]:
    return [e.fingerprint for e in VectorStore(store).population("s1")]


def listed(store: Store) -> list[str]:
    return fingerprints(store.root)


def test_every_machine_counts_the_versions_that_the_last_ranking_saw(on: On) -> None:
    vectors = put_versions(on("a"), "e1", "e2")
    assert counts(on("b")) == counts(on("a")) == ["e2"]
    back = vectors.population("s1", {("model", "m"): "e1"})
    vectors.put_ranking("s1", "n1", schemas.NEIGHBORS.empty_table(), back, None, Stamp())
    assert counts(on("b")) == counts(on("a")) == ["e1"]
    fold(on("b"))
    assert counts(on("a")) == counts(on("b")) == ["e1"]


def test_two_machines_that_fold_the_same_lose_nothing_and_show_nothing_twice(on: On) -> None:
    put_versions(on("a"), "e1", "e2", "e3")
    a, b = on("a"), on("b")
    put_versions(b, "e4")
    assert fold(a).files == 3
    assert fold(b).files == 4  # not pulled since
    put_versions(a, "e1")  # found in its part
    for machine in ("a", "b", "c"):
        assert listed(on(machine)) == ["e1", "e2", "e3", "e4"]
        assert counts(on(machine)) == ["e4"]
    assert [name for name in there(a) if name.startswith(FOLDER) and "folded" not in name] == []


def test_answers_of_another_machine_are_found_by_a_ledger_that_is_open(on: On) -> None:
    request = ChatRequest("svc", "http://127.0.0.1:9/v1", "m", (Message("user", "hello"),))
    b = on("b")
    ledger = ResponseStore(b.root / "responses")
    assert ledger.get(request.key) is None
    with ResponseStore(on("a").root / "responses") as paid:
        paid.put(request, Answer("yes", None, 1, 1, 5.0, "m", "stop"))
        assert not there(b)  # live answers are this machine's
        paid.export()
    assert len(there(b)) == 1
    assert ledger.get(request.key) is None
    on("b")
    found = ledger.get(request.key)
    assert found is not None
    assert found.text == "yes"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("file:///tmp/store", "give the folder's path itself"),
        ("nosuch://bucket/store", "install fute\\[s3\\].*fsspec"),
    ],
)
def test_an_address_that_cannot_be_one_is_told(address: str, told: str, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("FUTE_MIRROR", str(tmp_path))
    with pytest.raises(StoreError, match=told):
        Store(address).pull()


@pytest.mark.parametrize("key", ["runs/../../outside.parquet", "runs//x.parquet", "../runs/x.parquet", "runs/./x"])
def test_a_key_that_leads_out_of_the_mirror_is_not_the_stores(key: str) -> None:
    assert not remote.is_mirrored(key)
    assert remote.is_mirrored("runs/x.parquet")


@pytest.mark.parametrize(
    "address", ["s3://KEY:hush-hush@bucket/store", "s3://KEY:hush/hush@bucket", "sftp://me:hush@host/x"]
)
def test_an_address_with_a_key_in_it_is_refused_without_repeating_it(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUTE_MIRROR", str(tmp_path))
    with pytest.raises(StoreError, match="it has a key or password in it") as told:
        Store(address)
    assert "hush" not in str(told.value)
    assert not list(tmp_path.iterdir())
