"""Live files: what cannot be written is an error of the store, and who may not write reads them all the same."""

from __future__ import annotations

import os
import sqlite3
import time

import pytest

from fute.errors import StoreError
from fute.llm.types import Answer, ChatRequest, Message
from storage import files, live_responses
from storage.live_responses import NO_BILL, LiveFile, remove, row_of
from storage.responses import ResponseStore


@pytest.mark.parametrize("answer", [Answer("half a character \ud800"), Answer("x", tokens_in=10**20)])
def test_an_answer_that_cannot_be_kept_is_an_error_of_the_store(tmp_path, answer):
    file = LiveFile.create(tmp_path)
    request = ChatRequest("service", "http://h/v1", "m", (Message("user", "x"),))
    with pytest.raises(StoreError, match="cannot be kept as it is"):
        file.put(row_of(request, answer, NO_BILL))
    file.put(row_of(request, Answer("good"), NO_BILL))
    assert file.get(request.key) == Answer("good")
    file.close()


def asked(text):
    return ChatRequest("service", "http://h/v1", "m", (Message("user", text),))


def put(file, *texts):
    for text in texts:
        file.put(row_of(asked(text), Answer(text), NO_BILL))


@pytest.fixture
def no_rights(monkeypatch):
    """Who reads may not write. That SQLite can make no log then is shown on a real read-only disk: test_faults.py."""
    monkeypatch.setattr(LiveFile, "_is_for_reading", lambda self: self._lock_file is None)


def files_beside(file):
    return sorted(path.name.partition(".")[2] for path in file.path.parent.iterdir())


def test_a_reader_without_rights_leaves_nothing_beside_a_file_whose_process_has_ended(tmp_path, no_rights):
    file = LiveFile.create(tmp_path)
    put(file, "one")
    file.close()
    reader = LiveFile(file.path)
    assert reader.get(asked("one").key) == Answer("one")
    assert len(reader.rows()) == 1
    assert files_beside(file) == ["lock", "sqlite"]
    remove(file.path)  # folded meanwhile
    assert reader.get(asked("one").key) == Answer("one")
    assert LiveFile.create(tmp_path).path != file.path
    reader.close()


def test_a_reader_without_rights_that_came_before_the_writer_sees_what_it_writes(tmp_path, no_rights):
    path = tmp_path / "new.sqlite"
    sqlite3.connect(path).execute("PRAGMA journal_mode = WAL").connection.close()  # as create() begins
    early = LiveFile(path)
    assert early.rows() == []
    writer = LiveFile(path, lock=path.with_suffix(".lock").open("ab"))
    writer._db.execute(live_responses._CREATE)
    put(writer, "one")
    assert early.get(asked("one").key) == Answer("one")
    put(writer, *map(str, range(3000)))  # more than one turn of the log
    assert len(early.rows()) == 3001
    early.close()
    writer.close()


def test_what_was_read_while_a_writer_came_and_went_does_not_count(tmp_path, no_rights):
    path = tmp_path / "new.sqlite"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(live_responses._CREATE)
    db.close()
    reader = LiveFile(path)
    assert reader.rows() == []
    writer = LiveFile(path, lock=path.with_suffix(".lock").open("ab"))
    put(writer, "one")
    writer.close()  # with its log: only the file itself tells
    assert reader.get(asked("one").key) == Answer("one")
    reader.close()


def test_a_killed_foldings_half_file_is_removed_by_a_later_folding(tmp_path):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    scratch = files.Scratch(tmp_path)
    left, mine = scratch.path(), scratch.path()
    left = left.with_name(left.name.replace(str(os.getpid()), str(child), 1))
    for path in (left, mine):
        path.write_bytes(b"PAR1 half")
        os.utime(path, (time.time() - 2 * files.STALE_AFTER_S,) * 2)
    with ResponseStore(tmp_path) as store:
        store.put(asked("one"), Answer("one"))
        assert store.fold() == 1
    assert list(scratch.root.iterdir()) == [mine]
