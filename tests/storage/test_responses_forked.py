"""A process that forks while it asks: the child leaves the parent's files alone, and holds none of its locks."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from storage.live_responses import files_in, try_lock
from storage.responses import ResponseStore
from tests.storage.test_responses import ANSWER, REPOSITORY, request

FORKED = """
    import gc, os, sys
    from storage.responses import ResponseStore
    from tests.storage.test_responses import ANSWER, request

    store = ResponseStore(sys.argv[1])
    store.put(request("before"), ANSWER)
    if os.fork() == 0:
        if sys.argv[2] == "writes":
            assert store.get(request("before").key) == ANSWER
            store.put(request("child"), ANSWER)
            gc.collect()
        else:
            print("forked", flush=True)
            sys.stdin.read()
        os._exit(0)
    if sys.argv[2] == "writes":
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        store.put(request("parent"), ANSWER)
    os._exit(0)
"""


def forked(folder: Path, child: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FORKED), str(folder), child],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_child_that_outlives_its_parent_does_not_hold_the_parents_file(tmp_path: Path) -> None:
    process = forked(tmp_path, "waits")
    assert process.wait(120) == 0
    assert process.stdout is not None
    assert process.stdout.readline() == "forked\n"  # the child is up, and lives until its input ends
    (live,) = files_in(tmp_path / "live", ".sqlite")
    lock = try_lock(live)
    assert lock is not None
    lock.close()
    assert ResponseStore(tmp_path).fold() == 1
    process.communicate(timeout=120)  # ends the child


def test_what_child_and_parent_write_after_a_fork_is_all_there(tmp_path: Path) -> None:
    process = forked(tmp_path, "writes")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    with ResponseStore(tmp_path) as store:
        assert [store.get(request(text).key) for text in ("before", "child", "parent")] == [ANSWER] * 3
