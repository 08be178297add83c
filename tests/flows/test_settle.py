"""While a stage waits for its tasks, it says for which."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.states import Completed, Failed, Pending, Running, State

from flows import session


class Future:
    """In one state until it was waited for so often, then in the last."""

    def __init__(self, before: State[Any], waits: int, last: State[Any]) -> None:
        self.state, self._waits, self._last = before, waits, last

    def wait(self, timeout: float | None = None) -> None:
        self._waits -= 1
        if self._waits < 0:
            self.state = self._last

    def result(self) -> str:
        return "its result"


def test_what_is_awaited_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(session, "SAY_EVERY_S", 0.0)
    caplog.set_level("INFO", logger="flows")
    futures: Any = [
        ("first", Future(Pending(), 0, Completed())),
        ("slow", Future(Running(), 1, Completed())),
        ("broken", Future(Pending(), 0, Failed(message="no disk"))),
    ]
    results, failures = session.settle(futures, "outputs")
    assert results == ["its result"] * 2
    assert [(f.subject, f.reason) for f in failures] == [("broken", "no disk")]
    assert caplog.messages == ["outputs: 1 of 3 done; at work: slow", "outputs of broken failed: no disk"]
