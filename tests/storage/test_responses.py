from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import storage.responses
from fute.config import EndpointConfig
from fute.errors import StoreError
from fute.llm.client.cache import Cache
from fute.llm.types import Answer, ChatRequest, Message, TokenLogprobs
from storage import catalog
from storage.folded_responses import ROW_GROUP_SIZE
from storage.key_filter import KeyFilter
from storage.responses import RESPONSES, ResponseStore
from storage.run_ledger import RunLedger
from storage.stamp import Stamp
from tests.llm_server import LlmServer, by_first_word

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


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


def test_an_answer_comes_back_as_it_was_kept(tmp_path):
    store = ResponseStore(tmp_path)
    bare = Answer("x")
    store.put(request("one"), ANSWER)
    store.put(request("two"), bare)
    for opened in (store, ResponseStore(tmp_path)):
        assert opened.get(request("one").key) == ANSWER
        assert opened.get(request("two").key) == bare
        assert opened.get(request("three").key) is None


def test_an_answer_comes_back_the_same_after_folding(tmp_path):
    store = ResponseStore(tmp_path)
    store.put(request("one"), ANSWER)
    assert store.fold() == 1
    for opened in (store, ResponseStore(tmp_path)):
        assert opened.get(request("one").key) == ANSWER
    assert list((tmp_path / "live").iterdir()) == []
    assert len(list(tmp_path.glob("*.parquet"))) == 1


def test_an_empty_store_has_no_answers_and_makes_no_files(tmp_path):
    store = ResponseStore(tmp_path / "none")
    assert store.get("k") is None
    assert store.fold() == 0
    assert store.arrow_table().schema == RESPONSES
    assert store.arrow_table().num_rows == 0
    assert not (tmp_path / "none").exists()


def test_the_table_holds_live_and_folded_answers_of_all_writers_once(tmp_path):
    first, second = ResponseStore(tmp_path), ResponseStore(tmp_path)
    first.put(request("one"), ANSWER)
    first.fold()
    first.put(request("two"), ANSWER)
    second.put(request("three"), ANSWER)
    second.put(request("one"), ANSWER)
    table = ResponseStore(tmp_path).arrow_table()
    assert table.schema == RESPONSES
    rows = {row["key"]: row for row in table.to_pylist()}
    assert len(rows) == table.num_rows == 3
    row = rows[request("one").key]
    assert row["service"] == "service"
    assert row["base_url"] == "http://h/v1"
    assert row["resolved_model"] == "m-2024"
    assert row["messages"] == '[{"role":"system","content":"s"},{"role":"user","content":"one"}]'
    assert row["params"] == '{"temperature":0.0,"max_tokens":8,"top_logprobs":20,"sample":0}'
    assert row["answer"] == "gut ☺"
    assert (row["tokens_in"], row["latency_ms"], row["finish_reason"]) == (7, 12.5, "stop")
    assert abs(row["created_at"].timestamp() - time.time()) < 60


def test_the_first_answer_to_a_request_stays(tmp_path):
    store = ResponseStore(tmp_path)
    store.put(request("one"), ANSWER)
    store.put(request("one"), Answer("another"))
    assert store.get(request("one").key) == ANSWER


def test_answers_of_another_writer_are_seen_as_they_come_and_after_it_folded_them(tmp_path):
    reader, writer = ResponseStore(tmp_path), ResponseStore(tmp_path)
    assert reader.get(request("one").key) is None
    for text in ("one", "two"):
        writer.put(request(text), ANSWER)
        assert reader.get(request(text).key) == ANSWER
    writer.fold()
    writer.put(request("three"), ANSWER)
    writer.fold()
    for text in ("one", "two", "three"):
        assert reader.get(request(text).key) == ANSWER


def test_files_of_a_running_writer_are_not_folded_by_another(tmp_path):
    writer, other = ResponseStore(tmp_path), ResponseStore(tmp_path)
    writer.put(request("one"), ANSWER)
    assert other.fold() == 0
    writer.put(request("two"), ANSWER)
    writer.close()
    assert other.fold() == 1
    assert other.arrow_table().num_rows == 2


def test_a_store_can_be_written_again_after_it_was_closed(tmp_path):
    with ResponseStore(tmp_path) as store:
        store.put(request("one"), ANSWER)
    store.put(request("two"), ANSWER)
    assert store.get(request("one").key) == ANSWER
    assert store.fold() == 2


def test_many_threads_write_and_read_at_once(tmp_path):
    store = ResponseStore(tmp_path)

    def work(thread: int) -> None:
        for i in range(40):
            store.put(request(f"{thread} {i}"), ANSWER)
            assert store.get(request(f"{thread} {i}").key) == ANSWER

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert store.arrow_table().num_rows == 320


# ------------------------------------------------------------------------------------------------------------ disasters


@pytest.mark.parametrize("step", ["write_parquet", "remove"])
def test_folding_that_is_cut_off_at_any_step_neither_loses_nor_doubles_answers(tmp_path, monkeypatch, step):
    store = ResponseStore(tmp_path)
    store.put(request("one"), ANSWER)
    store.put(request("two"), ANSWER)

    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storage.responses, step, cut_off)
        with pytest.raises(KeyboardInterrupt):
            store.fold()
    assert ResponseStore(tmp_path).arrow_table().num_rows == 2
    assert ResponseStore(tmp_path).get(request("one").key) == ANSWER
    assert ResponseStore(tmp_path).fold() == 1
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    assert pq.read_table(next(tmp_path.glob("*.parquet"))).num_rows == 2
    assert list((tmp_path / "live").iterdir()) == []


def test_a_file_of_a_process_that_died_before_its_first_answer_is_cleared_away(tmp_path):
    (tmp_path / "live").mkdir()
    sqlite3.connect(tmp_path / "live" / "20240101-dead.sqlite").close()
    (tmp_path / "live" / "20240101-empty.sqlite").touch()
    store = ResponseStore(tmp_path)
    assert store.get("k") is None
    assert store.arrow_table().num_rows == 0
    store.fold()
    assert list((tmp_path / "live").iterdir()) == []
    assert list(tmp_path.glob("*.parquet")) == []


def test_a_damaged_file_is_named_and_does_not_keep_the_others_from_being_folded(tmp_path, caplog):
    store = ResponseStore(tmp_path)
    store.put(request("one"), ANSWER)
    damaged = tmp_path / "live" / "20240101-damaged.sqlite"
    damaged.write_bytes(b"no database at all" * 100)
    assert store.fold() == 1
    assert "20240101-damaged.sqlite is damaged" in caplog.text
    assert store.get(request("one").key) == ANSWER
    with pytest.raises(StoreError, match=r"20240101-damaged\.sqlite is damaged"):
        store.get(request("other").key)


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
        until(lambda: len(server.answered) >= 120)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        until(lambda: server._in_flight == 0)
        answered = set(server.answered)
        kept = ResponseStore(tmp_path).arrow_table().num_rows
        # Eight are in flight at most, and one more each may be sent or received and not yet committed.
        assert len(answered) - 8 <= kept <= len(answered)
        assert 100 < kept < 400

        again = python(ASK_MANY, str(tmp_path), server.base_url, "400")
        out, err = again.communicate(timeout=300)
        assert out.split() == [str(400 - kept), str(kept)], err
        assert sum(count - 1 for count in server.asked.values()) <= 8
    store = ResponseStore(tmp_path)
    assert store.fold() == 2
    assert store.arrow_table().num_rows == 400


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


# -------------------------------------------------------------------------------------------------- many, and looked at


def test_folded_answers_are_found_wherever_in_the_file_they_stand(tmp_path):
    store = ResponseStore(tmp_path)
    n = 2 * ROW_GROUP_SIZE + 10
    for i in range(n):
        store.put(request(str(i)), Answer(f"answer {i}"))
    store.fold()
    assert pq.ParquetFile(next(tmp_path.glob("*.parquet"))).num_row_groups == 3
    opened = ResponseStore(tmp_path)
    for i in [*range(0, n, 37), n - 1, 0]:
        assert opened.get(request(str(i)).key) == Answer(f"answer {i}")
    assert opened.get(request("never asked").key) is None


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
    store.fold()
    assert catalog.query(tmp_path, query).rows == expected


def test_sql_sees_live_and_folded_answers_each_once_and_files_that_lack_the_newer_columns(tmp_path):
    folder = tmp_path / "responses"
    first, second = ResponseStore(folder), ResponseStore(folder)
    for store in (first, second):  # both paid for the same one
        store.put(request("one"), ANSWER)
    first.fold()
    second.put(request("two"), ANSWER)
    old = RESPONSES.names
    for name in ("cost_usd", "run_id", "flow_run_id"):
        old.remove(name)
    path = next(folder.glob("*.parquet"))
    pq.write_table(pq.read_table(path).select(old), path)
    rows = catalog.query(tmp_path, "SELECT count(*), count(DISTINCT key), count(cost_usd) FROM responses").rows
    assert rows == [(2, 2, 0)]
    second.fold()
    assert catalog.query(tmp_path, "SELECT count(*), count(DISTINCT key) FROM responses").rows == [(2, 2)]


def test_a_key_filter_never_denies_a_key_that_was_added():
    seen = KeyFilter()
    keys = [request(str(i)).key for i in range(2000)]
    for key in keys[:1000]:
        seen.add(key)
    assert all(seen.may_hold(key) for key in keys[:1000])
    assert sum(seen.may_hold(key) for key in keys[1000:]) < 10
