"""A process that forks while it asks: parent and child go on with the same ledger, and neither harms the other's."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from storage.responses import LEDGER, ResponseStore
from tests.storage.test_responses import ANSWER, REPOSITORY, request

FORKED = """
    import gc, os, signal, sys, threading
    from storage.responses import ResponseStore
    from tests.storage.test_responses import ANSWER, request

    N = 300
    store = ResponseStore(sys.argv[1])
    store.put(request("before"), ANSWER)
    assert store.claim("the parent's")

    def work(who):
        for i in range(N):
            store.put(request(f"{who} {i}"), ANSWER)

    # Forked in the middle of what another thread writes.
    thread = threading.Thread(target=work, args=("thread",))
    thread.start()
    children = []
    for number in range(5):
        child = os.fork()
        if child == 0:
            assert store.get(request("before").key) == ANSWER
            assert not store.claim("the parent's")
            work(f"child {number}")
            gc.collect()
            if sys.argv[2] == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if sys.argv[2] == "closed":
                store.export()
                sys.exit(0)
            os._exit(0)
        children.append(child)
    work("parent")
    thread.join()
    store.close()
    for child in children:
        os.waitpid(child, 0)
    store.put(request("after"), ANSWER)
    assert not ResponseStore(sys.argv[1]).claim("the parent's")
"""


@pytest.mark.parametrize("children", ["end", "killed", "closed"])
def test_what_children_and_parent_write_after_a_fork_is_all_there(tmp_path: Path, children: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORKED), str(tmp_path), children],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (0, "")
    wanted = ["before", "after"]
    wanted += [f"{who} {i}" for who in ("parent", "thread", *(f"child {n}" for n in range(5))) for i in range(300)]
    with ResponseStore(tmp_path) as store:
        assert all(store.get(request(text).key) == ANSWER for text in wanted)
        store.export()
    with closing(sqlite3.connect(tmp_path / LEDGER)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT count(*) FROM responses").fetchall() == [(len(wanted),)]
