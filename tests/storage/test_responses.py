from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import storage.responses
from fute.config import EndpointConfig
from fute.errors import StoreError
from fute.llm.cache import Cache
from fute.llm.types import Answer, ChatRequest, Message, TokenLogprobs
from storage import catalog, files
from storage.responses import LEDGER, ResponseStore, RunLedger
from storage.stamp import Stamp
from tests.llm_server import LlmServer, by_first_word
from tests.mounts import small_disk
from tests.processes import until

REPOSITORY = Path(__file__).resolve().parents[2]


def request(text: str) -> ChatRequest:
    return ChatRequest("service", "http://h/v1", "m", (Message("system", "s"), Message("user", text)))


ANSWER = Answer(
    text="gut ☺",
    logprobs=(TokenLogprobs("gut", -0.1, (("gut", -0.1), ("schlecht", -2.5))),),
    tokens_in=7,
    tokens_out=1,
    latency_ms=12.5,
    resolved_model="m-2024",
    finish_reason="stop",
)


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own that runs this code with the repository on its path."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_answer_comes_back_as_it_was_kept(tmp_path):
    store = ResponseStore(tmp_path)
    bare = Answer("x")
    store.put(request("one"), ANSWER)
    store.put(request("two"), bare)
    for opened in (store, ResponseStore(tmp_path)):
        assert opened.get(request("one").key) == ANSWER
        assert opened.get(request("two").key) == bare
        assert opened.get(request("three").key) is None


@pytest.mark.parametrize("answer", [Answer("half a character \ud800"), Answer("x", tokens_in=10**20)])
def test_an_answer_that_cannot_be_kept_is_an_error_of_the_store(tmp_path, answer):
    store = ResponseStore(tmp_path)
    with pytest.raises(StoreError, match="cannot be kept as it is"):
        store.put(request("one"), answer)
    store.put(request("one"), ANSWER)
    assert store.get(request("one").key) == ANSWER


def test_an_empty_store_has_no_answers_and_makes_no_files(tmp_path):
    store = ResponseStore(tmp_path / "none")
    assert store.get("k") is None
    assert store.export() == 0
    assert store.unexported().num_rows == 0
    assert not (tmp_path / "none").exists()


def test_the_first_answer_to_a_request_stays(tmp_path):
    store = ResponseStore(tmp_path)
    store.put(request("one"), ANSWER)
    store.put(request("one"), Answer("another"))
    assert store.get(request("one").key) == ANSWER


def test_a_store_can_be_written_again_after_it_was_closed(tmp_path):
    with ResponseStore(tmp_path) as store:
        store.put(request("one"), ANSWER)
    store.put(request("two"), ANSWER)
    assert [store.get(request(text).key) for text in ("one", "two")] == [ANSWER] * 2


def test_many_threads_write_and_read_at_once(tmp_path):
    store = ResponseStore(tmp_path)

    def work(thread: int) -> None:
        for i in range(40):
            store.put(request(f"{thread} {i}"), ANSWER)
            assert store.get(request(f"{thread} {i}").key) == ANSWER

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert store.unexported().num_rows == 320


# -------------------------------------------------------------------------------------------------------------- exports


def exported(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def keys(folder: Path) -> list[str]:
    """Of all answers, as SQL sees them."""
    return [key for (key,) in catalog.query(folder.parent, "SELECT key FROM responses").rows]


def test_each_export_writes_what_no_other_wrote_and_the_ledger_goes_on(tmp_path):
    folder = tmp_path / "responses"
    store, other = ResponseStore(folder), ResponseStore(folder)
    store.put(request("one"), ANSWER)
    other.put(request("two"), ANSWER)
    assert store.export() == 2
    assert other.export() == 0
    store.put(request("three"), ANSWER)
    assert other.get(request("three").key) == ANSWER
    assert other.export() == 1
    assert [pq.read_metadata(path).num_rows for path in exported(folder)].count(2) == 1
    assert len(exported(folder)) == 2
    assert sorted(keys(folder)) == sorted(request(text).key for text in ("one", "two", "three"))
    for text in ("one", "two", "three"):
        assert store.get(request(text).key) == ANSWER


def test_after_an_export_the_ledger_is_one_file_and_can_be_made_anew_from_parquet(tmp_path):
    with ResponseStore(tmp_path) as store:
        for i in range(30):
            store.put(request(str(i)), Answer(f"answer {i}"))
        store.export()
    assert sorted(path.name for path in tmp_path.glob(f"{LEDGER}*")) == [LEDGER]
    (tmp_path / LEDGER).unlink()
    opened = ResponseStore(tmp_path)
    for i in range(30):
        assert opened.get(request(str(i)).key) == Answer(f"answer {i}")
    assert opened.get(request("never asked").key) is None
    assert opened.export() == 0


@pytest.mark.parametrize("step", ["write_parquet", "_load"])
def test_an_export_that_is_cut_off_at_any_step_neither_loses_nor_doubles_answers(tmp_path, monkeypatch, step):
    folder = tmp_path / "responses"
    store = ResponseStore(folder)
    store.put(request("one"), ANSWER)
    store.put(request("two"), ANSWER)

    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storage.responses if step == "write_parquet" else ResponseStore, step, cut_off)
        with pytest.raises(KeyboardInterrupt):
            store.export()
    assert len(keys(folder)) == 2
    assert ResponseStore(folder).get(request("one").key) == ANSWER
    ResponseStore(folder).put(request("three"), ANSWER)
    ResponseStore(folder).export()
    assert sum(pq.read_metadata(path).num_rows for path in exported(folder)) == len(keys(folder)) == 3


def test_a_killed_exports_half_file_is_removed_by_a_later_one(tmp_path):
    scratch = files.Scratch(tmp_path)
    scratch.root.mkdir()
    (left := scratch.path()).write_bytes(b"PAR1 half")
    os.utime(left, (time.time() - 2 * files.STALE_AFTER_S,) * 2)
    with ResponseStore(tmp_path) as store:
        store.put(request("one"), ANSWER)
        assert store.export() == 1
    assert list(scratch.root.iterdir()) == []


def test_more_answers_than_fit_in_memory_are_exported_in_several_files(tmp_path, monkeypatch):
    folder = tmp_path / "responses"
    monkeypatch.setattr(storage.responses, "_UNEXPORTED", storage.responses._UNEXPORTED.replace("10000", "7"))
    with ResponseStore(folder) as store:
        for i in range(20):
            store.put(request(str(i)), Answer(str(i)))
        assert store.export() == 20
        assert store.export() == 0
    assert sorted(pq.read_metadata(path).num_rows for path in exported(folder)) == [6, 7, 7]
    assert len(keys(folder)) == 20


def test_a_parquet_file_of_another_machine_is_found_by_a_ledger_that_is_open(tmp_path):
    here, there = ResponseStore(tmp_path / "here"), ResponseStore(tmp_path / "there")
    here.put(request("mine"), ANSWER)
    here.put(request("both"), ANSWER)
    assert here.get(request("theirs").key) is None
    there.put(request("theirs"), Answer("theirs"))
    there.put(request("both"), Answer("theirs"))
    there.export()
    (arrived,) = exported(tmp_path / "there")
    arrived.rename(tmp_path / "here" / arrived.name)
    assert here.get(request("theirs").key) == Answer("theirs")
    assert here.get(request("both").key) == ANSWER  # the one that was paid for here stays
    assert here.export() == 2


def test_sqlite_files_of_an_earlier_version_are_read_by_all_and_exported_once(tmp_path):
    folder = tmp_path / "responses"
    shutil.copytree(REPOSITORY / "tests" / "data" / "store-v1" / "responses", folder)
    assert len(keys(folder)) == 2
    assert None not in [ResponseStore(folder).get(key) for key in keys(folder)]
    assert ResponseStore(folder).export() == 1
    shutil.rmtree(folder / "live")
    assert len(keys(folder)) == 2
    assert ResponseStore(folder).export() == 0


# ------------------------------------------------------------------------------------------------------------ disasters


def test_a_ledger_whose_maker_died_before_its_first_answer_is_used(tmp_path):
    sqlite3.connect(tmp_path / LEDGER).close()
    (tmp_path / LEDGER).touch()
    store = ResponseStore(tmp_path)
    assert store.unexported().num_rows == 0
    assert store.get("k") is None
    store.put(request("one"), ANSWER)
    assert store.get(request("one").key) == ANSWER


def test_a_damaged_ledger_is_named_and_nothing_is_asked_again_until_it_is_moved(tmp_path):
    store = ResponseStore(tmp_path)
    store.put(request("one"), ANSWER)
    store.export()
    (tmp_path / LEDGER).write_bytes(b"no database at all" * 1000)
    for use in (
        lambda: store.get(request("one").key),
        lambda: store.get(request("other").key),
        lambda: store.put(request("two"), ANSWER),
        store.export,
        store.unexported,
    ):
        with pytest.raises(StoreError, match=rf"{LEDGER} is damaged .*put back a copy of it, or move it out"):
            use()
    (tmp_path / LEDGER).unlink()
    assert store.get(request("one").key) == ANSWER


@pytest.mark.parametrize("name", ["live/20240101-damaged.sqlite", "20240101-damaged.parquet"])
def test_a_damaged_file_beside_the_ledger_is_named_and_keeps_no_answer_from_being_exported(tmp_path, caplog, name):
    store = ResponseStore(tmp_path)
    store.put(request("one"), ANSWER)
    damaged = tmp_path / name
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(b"neither of both" * 100)
    assert store.export() == 1
    assert str(damaged) in caplog.text
    with pytest.raises(StoreError, match=str(damaged)):
        store.get(request("other").key)
    damaged.unlink()
    assert store.get(request("one").key) == ANSWER


def test_on_a_full_disk_what_is_kept_stays_and_the_next_answers_are_kept_when_there_is_space(tmp_path):
    with small_disk(tmp_path, megabytes=1):
        store = ResponseStore(tmp_path)
        kept = 0
        with suppress(StoreError):
            for kept in range(10_000):
                store.put(request(str(kept)), Answer("long " * 500))
        with pytest.raises(StoreError, match=rf"{LEDGER}: an answer could not be kept \(.*full\); look at the disk's"):
            store.put(request(str(kept)), Answer("long " * 500))
        with pytest.raises(StoreError, match="full|free disk space"):
            store.export()
        assert store.get(request(str(kept - 1)).key) == ResponseStore(tmp_path).get(request("0").key)
        subprocess.run(["mount", "-o", "remount,size=8m", str(tmp_path)], check=True)
        store.put(request("more"), ANSWER)
        assert ResponseStore(tmp_path).export() == kept + 1
        store.close()


def test_a_file_system_without_a_log_for_sqlite_is_refused(tmp_path, monkeypatch):
    class NoSharedMemory(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            return super().execute(sql.replace("journal_mode = WAL", "journal_mode = DELETE"), *values)

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **kw: real(*a, **kw, factory=NoSharedMemory))
    with pytest.raises(StoreError, match=rf"{LEDGER}: SQLite has no write-ahead log on this file system"):
        ResponseStore(tmp_path).put(request("one"), ANSWER)


PUT_MANY = """
    import sys
    from storage.responses import ResponseStore
    from tests.storage.test_responses import ANSWER, request

    store = ResponseStore(sys.argv[1])
    for i in range(int(sys.argv[3])):
        store.put(request(f"{sys.argv[2]} {i}"), ANSWER)
        if i % 50 == 49:
            store.export()  # and so another connection, and a new file for all
"""


def test_several_processes_that_write_and_export_at_once_lose_nothing_and_readers_see_each_answer_once(tmp_path):
    folder = tmp_path / "responses"
    processes = [python(PUT_MANY, str(folder), str(number), "200") for number in range(4)]
    reader, most = ResponseStore(folder), 0
    while any(process.poll() is None for process in processes):
        seen = keys(folder)
        assert len(seen) == len(set(seen)) >= most
        most = len(seen)
        reader.get("no such key")
    assert [process.communicate()[1] for process in processes] == [""] * 4
    wanted = {request(f"{number} {i}").key for number in range(4) for i in range(200)}
    assert set(keys(folder)) == wanted
    assert reader.unexported().num_rows == 0
    assert all(reader.get(key) == ANSWER for key in wanted)


ASK_MANY = """
    import sys
    from fute.config import EndpointConfig, PromptConfig
    from fute.models.prompted import PromptedModel
    from fute.types import TextTable
    from storage.responses import ResponseStore

    folder, base_url, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
    prompt = PromptConfig(id="p", template="Q\\n{{text}}", verbalizer={"a": ["positive"], "b": ["negative"]})
    endpoint = EndpointConfig(id="e", base_url=base_url, model="m", max_concurrency=8, service="test")
    model = PromptedModel("m", prompt, endpoint, ledger=ResponseStore(folder))
    details = model.outputs(TextTable([f"good {i}" for i in range(n)])).details
    print(details["calls"], details["cached"])
"""


def test_a_killed_process_loses_no_answer_but_those_in_flight_and_no_answer_is_paid_twice(tmp_path):
    with LlmServer(by_first_word, latency_s=0.01) as server:
        killed = python(ASK_MANY, str(tmp_path), server.base_url, "400")
        until(lambda: len(server.answered) >= 120, "answers")
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        until(lambda: server._in_flight == 0, "the end of all requests")
        answered = set(server.answered)
        kept = ResponseStore(tmp_path).unexported().num_rows
        # Eight are in flight at most, and one more each may be sent or received and not yet committed.
        assert len(answered) - 8 <= kept <= len(answered)
        assert 100 < kept < 400

        again = python(ASK_MANY, str(tmp_path), server.base_url, "400")
        out, err = again.communicate(timeout=300)
        assert out.split() == [str(400 - kept), str(kept)], err
        assert sum(count - 1 for count in server.asked.values()) <= 8
    assert ResponseStore(tmp_path).export() == 400


def test_two_processes_that_want_the_same_answers_ask_once(tmp_path):
    with LlmServer(by_first_word, latency_s=0.02) as server:
        both = [python(ASK_MANY, str(tmp_path), server.base_url, "60") for _ in range(2)]
        counts = [[int(word) for word in process.communicate(timeout=300)[0].split()] for process in both]
        assert server.n_requests == 60
        assert sum(calls for calls, _ in counts) == 60
        assert [calls + cached for calls, cached in counts] == [60, 60]


def test_a_claim_ends_with_the_process_that_held_it(tmp_path):
    holder = python(
        """
        import sys, time
        from storage.responses import ResponseStore

        assert ResponseStore(sys.argv[1]).claim("k")
        print("held", flush=True)
        time.sleep(60)
        """,
        str(tmp_path),
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    store = ResponseStore(tmp_path)
    assert not store.claim("k")
    assert store.claim("another")
    holder.kill()
    holder.wait()
    assert store.claim("k")
    store.release("k")
    store.release("another")


def test_a_claim_holds_between_threads_and_stores_of_one_process(tmp_path):
    first, second = ResponseStore(tmp_path), ResponseStore(tmp_path)
    assert first.claim("k")
    assert not first.claim("k")
    assert not second.claim("k")
    first.release("k")
    assert second.claim("k")
    second.release("k")
    second.release("k")  # nothing to end is no error


def test_stores_of_one_process_ask_once(tmp_path):
    calls = []

    class Slow:
        def complete(self, asked: ChatRequest) -> Answer:
            calls.append(asked.key)
            time.sleep(0.05)
            return ANSWER

    caches = [Cache(Slow(), ResponseStore(tmp_path)) for _ in range(4)]
    threads = [threading.Thread(target=cache.complete, args=(request("one"),)) for cache in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


# --------------------------------------------------------------------------------------------------------- looked at


def test_an_answer_is_billed_to_the_run_that_paid_for_it(tmp_path):
    store = ResponseStore(tmp_path / "responses")
    endpoint = EndpointConfig(
        id="e", base_url="http://h/v1", model="m", usd_per_million_tokens_in=2.0, usd_per_million_tokens_out=8.0
    )
    first = RunLedger(store, endpoint, Stamp("run 1", "flow run 1"))
    first.put(request("one"), ANSWER)  # 7 tokens in, 1 out
    first.put(request("two"), Answer("x"))  # tokens not known
    second = RunLedger(store, endpoint, Stamp("run 2", None))
    second.put(request("one"), ANSWER)
    assert second.get(request("one").key) == ANSWER
    query = "SELECT cost_usd, run_id, flow_run_id FROM responses ORDER BY answer"
    expected = [(pytest.approx(22e-6), "run 1", "flow run 1"), (None, "run 1", "flow run 1")]
    assert catalog.query(tmp_path, query).rows == expected
    store.export()
    assert catalog.query(tmp_path, query).rows == expected


def test_sql_sees_kept_and_exported_answers_as_they_came_and_files_that_lack_the_newer_columns(tmp_path):
    folder = tmp_path / "responses"
    store = ResponseStore(folder)
    store.put(request("one"), ANSWER)
    before = catalog.query(tmp_path, "SELECT * FROM responses").records()
    store.export()
    assert catalog.query(tmp_path, "SELECT * FROM responses").records() == before
    assert before[0].pop("created_at").timestamp() == pytest.approx(time.time(), abs=60)
    assert before[0] == {
        "key": request("one").key, "service": "service", "base_url": "http://h/v1", "model": "m",
        "resolved_model": "m-2024", "messages": '[{"role":"system","content":"s"},{"role":"user","content":"one"}]',
        "params": '{"temperature":0.0,"max_tokens":8,"top_logprobs":20,"sample":0}', "answer": "gut ☺",
        "logprobs": '[["gut",-0.1,[["gut",-0.1],["schlecht",-2.5]]]]', "tokens_in": 7, "tokens_out": 1,
        "cost_usd": None, "latency_ms": 12.5, "finish_reason": "stop", "run_id": None, "flow_run_id": None,
    }  # fmt: skip
    store.put(request("two"), ANSWER)
    (path,) = exported(folder)
    newer = ["cost_usd", "run_id", "flow_run_id"]
    pq.write_table(pq.read_table(path).drop_columns(newer), path)
    rows = catalog.query(tmp_path, "SELECT count(*), count(DISTINCT key), count(cost_usd) FROM responses").rows
    assert rows == [(2, 2, 0)]
    store.close()
    (folder / LEDGER).unlink()
    assert ResponseStore(folder).get(request("one").key) == ANSWER
