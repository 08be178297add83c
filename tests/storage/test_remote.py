"""A store on object storage and its mirrors, over fsspec's file system in memory. The S3 protocol: tests/flows."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fute.errors import StoreError
from fute.llm.types import Answer, ChatRequest, Message
from fute.types import TaskEmbedding
from storage import folding, remote, schemas
from storage.parts import singles_of
from storage.responses import ResponseStore
from storage.stamp import Stamp
from storage.store import Store
from storage.vectors import VectorStore
from storage.views import VIEWS
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


def put_prompt(store: Store, name: str) -> None:
    store.put_prompt({"id": name, "template": name}, Stamp())


def there(store: Store) -> set[str]:
    """What object storage holds, below the store."""
    prefix = store.address.partition("://")[2]
    return {path.partition(prefix)[2][1:] for path in fsspec.filesystem("memory").find(f"/{prefix}")}


def prompts(store: Store) -> list[str]:
    return sorted(path.stem for path in (store.root / "prompts").glob("*.parquet"))


def test_what_one_machine_pushes_another_pulls_and_what_is_local_stays(on: On) -> None:
    a = on("a")
    put_model(a, "m")
    put_prompt(a, "p")
    a.put_report("page.html", "<p>")
    for local in ("features/s/t.npy", "mlflow.db", "responses/budgets.sqlite", "responses/live/x.parquet", "tmp/half"):
        (a.root / local).parent.mkdir(parents=True, exist_ok=True)
        (a.root / local).write_text("local")
    assert there(a) == set()
    a.push()
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


def count(monkeypatch: pytest.MonkeyPatch, what: str) -> list[str]:
    """The names of the files that are copied from now on, by get_file or put_file."""
    copied: list[str] = []
    memory = type(fsspec.filesystem("memory"))
    copy = getattr(memory, what)

    def counted(self: Any, source: str, *rest: Any, **options: Any) -> None:
        copy(self, source, *rest, **options)
        copied.append(source.rpartition("/")[2])

    monkeypatch.setattr(memory, what, counted)
    return copied


def break_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ConnectionResetError("no route")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "put_file", broken)


def kill_at(monkeypatch: pytest.MonkeyPatch, what: str, copies: int) -> None:
    """Kill the process that copies, by get_file or put_file, when it has copied so many whole files."""
    memory = type(fsspec.filesystem("memory"))
    copy, left = getattr(memory, what), iter(range(copies))

    def killed(self: Any, source: str, target: str, **options: Any) -> None:
        if next(left, None) is None:
            if what == "get_file":
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                Path(target).write_bytes(b"half")
            raise KeyboardInterrupt
        copy(self, source, target, **options)

    monkeypatch.setattr(memory, what, killed)
    if what == "put_file":
        monkeypatch.setattr(remote, "write_file", lambda *_: None)  # nor has it written its list


def test_what_is_here_is_not_fetched_and_what_is_there_not_sent(on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    a = on("a")
    put_model(a, "m")
    a.push()
    b = on("b")
    fetched, sent = count(monkeypatch, "get_file"), count(monkeypatch, "put_file")
    for store in (a, b):
        store.push()
        store.pull()
    assert (fetched, sent) == ([], [])


def test_a_file_that_is_written_anew_is_sent_and_fetched_again(on: On) -> None:
    a = on("a")
    a.put_report("page.html", "old")
    a.push()
    b = on("b")
    a.put_report("page.html", "new")
    a.push()
    b.put_report("other.html", "of b")
    b.push()  # and does not send what it has of a's
    assert (on("c").root / "reports" / "page.html").read_text() == "new"
    assert (on("b").root / "reports" / "page.html").read_text() == "new"
    b.put_report("page.html", "nyb")  # of the same size as before
    b.push()
    assert (on("a").root / "reports" / "page.html").read_text() == "nyb"


def test_what_is_gone_there_and_made_anew_here_is_kept_and_sent(on: On) -> None:
    a = on("a")
    a.put_report("page.html", "old")
    a.push()
    prefix = a.address.partition("://")[2]
    fsspec.filesystem("memory").rm_file(f"/{prefix}/reports/page.html")
    put_prompt(a, "p")  # so that there is more than nothing
    a.push()
    a.put_report("page.html", "anew")
    assert (on("a").root / "reports" / "page.html").read_text() == "anew"
    a.push()
    assert (on("b").root / "reports" / "page.html").read_text() == "anew"


def test_a_folder_that_is_being_uploaded_is_not_seen_yet(on: On) -> None:
    a = on("a")
    put_model(a, "m")
    a.push()
    prefix = a.address.partition("://")[2]
    fsspec.filesystem("memory").rm_file(f"/{prefix}/models/m@1/{remote.CARD}")
    b = on("b")
    assert not b.model_folder("m@1").exists()
    put_model(b, "m")  # made here, it takes the place of the half that is there
    b.push()
    assert on("c").has_model("m@1", trained=True)


def test_a_model_that_two_machines_made_is_the_same_on_all_in_the_end(on: On) -> None:
    a, b = on("a"), on("b")
    put_model(a, "m")
    put_model(b, "m")
    (b.weights_folder("m@1") / "weights.bin").write_bytes(b"b")  # of the same size
    a.push()
    b.push()
    for machine in ("a", "b", "c"):
        assert (on(machine).weights_folder("m@1") / "weights.bin").read_bytes() == b"b"


def test_what_could_not_be_sent_is_kept_and_sent_by_the_next_push(on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    a = on("a")
    put_prompt(a, "p")
    put_model(a, "m")
    with monkeypatch.context() as patch:
        break_uploads(patch)
        with pytest.raises(StoreError, match="cannot be uploaded; it stays in .*no route"):
            a.push()
    assert there(a) == set()
    a = on("a")
    assert prompts(a)
    a.push()
    assert len(there(a)) == 3


def put_some(store: Store) -> None:
    """Five files, of which four are two models."""
    for name in ("m", "n"):
        put_model(store, name)
    put_prompt(store, "p")


def whole(store: Store) -> list[bool]:
    """Of both models, whether there is all of it; none may be there in part."""
    has = [store.has_model(f"{name}@1") for name in ("m", "n")]
    assert [store.has_model(f"{name}@1", trained=True) for name in ("m", "n")] == has
    return has


@pytest.mark.parametrize("copies", range(5))
def test_a_push_killed_at_any_file_is_finished_by_the_next(on: On, monkeypatch: pytest.MonkeyPatch,
                                                           copies: int) -> None:  # fmt: skip
    a = on("a")
    put_some(a)
    with monkeypatch.context() as patch:
        kill_at(patch, "put_file", copies)
        with pytest.raises(KeyboardInterrupt):
            a.push()
    assert len(there(a)) == copies
    whole(on("b"))
    assert whole(on("a")) == [True, True]
    on("a").push()
    assert len(there(a)) == 5
    assert whole(on("b")) == [True, True]


@pytest.mark.parametrize("copies", range(5))
def test_a_push_cut_off_at_any_file_loses_nothing_here(on: On, monkeypatch: pytest.MonkeyPatch, copies: int) -> None:
    a = on("a")
    put_some(a)
    copy, left = type(fsspec.filesystem("memory")).put_file, iter(range(copies))

    def breaks(self: Any, *arguments: Any, **options: Any) -> None:
        if next(left, None) is None:
            raise ConnectionResetError("no route")
        copy(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(fsspec.filesystem("memory")), "put_file", breaks)
        with pytest.raises(StoreError, match="no route"):
            a.push()
    assert whole(on("a")) == [True, True]  # after a pull
    a.push()
    assert whole(on("b")) == [True, True]


@pytest.mark.parametrize("copies", range(5))
def test_a_pull_killed_at_any_file_is_finished_by_the_next(on: On, monkeypatch: pytest.MonkeyPatch,
                                                           copies: int) -> None:  # fmt: skip
    a = on("a")
    put_some(a)
    a.push()
    with monkeypatch.context() as patch:
        kill_at(patch, "get_file", copies)
        with pytest.raises(KeyboardInterrupt):
            on("b")
    whole(Store(a.address))
    sent = count(monkeypatch, "put_file")
    b = on("b")
    b.push()
    assert sent == []
    assert whole(b) == [True, True]
    assert (b.weights_folder("n@1") / "weights.bin").read_bytes() == b"n"
    assert prompts(b) == prompts(a)


def test_threads_push_and_pull_at_once(on: On) -> None:
    a = on("a")

    def work(name: str) -> None:
        store = Store(a.address)
        put_prompt(store, name)
        store.push()
        store.pull()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, map(str, range(24))))
    assert len(there(a)) == len(prompts(a)) == len(prompts(on("b"))) == 24


def after_each_listing(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """What another machine does when a pull has listed the files and fetched none: a step for each listing."""
    left, listing, at_it = list(steps), remote._listed, threading.Lock()

    def and_step(*args: Any) -> Any:
        found = listing(*args)
        if left and at_it.acquire(blocking=False):  # not for the listings of a step itself
            left.pop(0)()
            at_it.release()
        return found

    monkeypatch.setattr(remote, "_listed", and_step)


def test_what_is_folded_elsewhere_during_a_pull_is_found_in_its_part(on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    a = on("a")
    put_model(a, "m")
    put_versions(a, "e1", "e2", "e3").store.push()
    after_each_listing(monkeypatch, lambda: fold(a), lambda: (put_versions(a, "e4", "e5"), a.push()))
    b = on("b")
    assert listed(b) == ["e1", "e2", "e3"]
    assert b.model_card("m@1")["score"] == 0.5
    assert list((b.root / "tmp").iterdir()) == []


def test_a_listed_file_that_is_never_there_is_told(on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    a = on("a")
    put_model(a, "m")
    put_versions(a, "e1", "e2", "e3").store.push()
    memory = type(fsspec.filesystem("memory"))
    get_file = memory.get_file

    def missing(self: Any, source: str, *rest: Any, **options: Any) -> None:
        if source.endswith("e2.parquet"):
            raise FileNotFoundError(source)
        get_file(self, source, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(memory, "get_file", missing)
        with pytest.raises(StoreError, match=r"cannot be read .*e2\.parquet"):
            on("b")
    fetched = count(monkeypatch, "get_file")
    assert listed(on("b")) == ["e1", "e2", "e3"]
    assert remote.CARD not in fetched  # what had come is kept


def test_what_one_machine_folds_goes_on_the_others_and_is_not_sent_again(on: On) -> None:
    put_versions(on("a"), "e1", "e2", "e3").store.push()
    b = on("b")
    put_versions(b, "e4")  # not pushed yet
    assert fold(on("a")).files == 3
    b.pull()
    b.push()
    assert listed(on("c")) == listed(b) == ["e1", "e2", "e3", "e4"]
    assert [path.stem for path in singles_of(b.root / FOLDER)] == ["e4"]
    assert len([name for name in there(b) if name.startswith(FOLDER)]) == 2


def test_a_fold_whose_part_cannot_be_sent_deletes_nothing(on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    a = on("a")
    put_versions(a, "e1", "e2", "e3").store.push()
    with monkeypatch.context() as patch:
        break_uploads(patch)
        (fault,) = folding.fold(a, a.root / FOLDER, min_files=2).faults
    assert "no route" in fault
    assert listed(on("b")) == listed(on("a")) == ["e1", "e2", "e3"]
    assert len(singles_of(a.root / FOLDER)) == 3


def test_a_file_that_is_deleted_by_hand_here_comes_back(on: On) -> None:
    a = on("a")
    put_prompt(a, "p")
    a.push()
    next((a.root / "prompts").iterdir()).unlink()
    a.push()
    assert len(there(a)) == 1
    assert prompts(on("a"))


def test_an_emptied_bucket_does_not_empty_the_mirror(on: On) -> None:
    a = on("a")
    put_prompt(a, "p")
    a.push()
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
    vectors.store.push()
    assert counts(on("b")) == counts(on("a")) == ["e2"]
    back = vectors.population("s1", {("model", "m"): "e1"})
    vectors.put_ranking("s1", "n1", schemas.NEIGHBORS.empty_table(), back, None, Stamp())
    vectors.store.push()
    assert counts(on("b")) == counts(on("a")) == ["e1"]
    fold(on("b"))
    assert counts(on("a")) == counts(on("b")) == ["e1"]


def test_two_machines_that_fold_the_same_lose_nothing_and_show_nothing_twice(on: On) -> None:
    put_versions(on("a"), "e1", "e2", "e3").store.push()
    a, b = on("a"), on("b")
    put_versions(b, "e4")
    assert fold(a).files == 3
    assert fold(b).files == 4  # not pulled since
    put_versions(a, "e1")  # found in its part
    a.push()
    for machine in ("a", "b", "c"):
        assert listed(on(machine)) == ["e1", "e2", "e3", "e4"]
        assert counts(on(machine)) == ["e4"]
    assert [name for name in there(a) if name.startswith(FOLDER) and "folded" not in name] == []


def test_answers_of_another_machine_are_found_by_a_ledger_that_is_open(on: On) -> None:
    request = ChatRequest("svc", "http://127.0.0.1:9/v1", "m", (Message("user", "hello"),))
    b = on("b")
    ledger = ResponseStore(b.root / "responses")
    assert ledger.get(request.key) is None
    a = on("a")
    with ResponseStore(a.root / "responses") as paid:
        paid.put(request, Answer("yes", None, 1, 1, 5.0, "m", "stop"))
        a.push()
        assert not there(b)  # live answers are this machine's
        paid.export()
    a.push()
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
