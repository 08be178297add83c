"""What an endpoint calls the model behind it: the name that it resolved, and its system_fingerprint."""

from __future__ import annotations

from collections.abc import Collection

from fute.llm.types import Answer, ChatRequest, Completer

NAMED = ("model", "system_fingerprint")


class Served:
    """A layer that notes these of every answer. An answer that is kept has no system_fingerprint any more."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._inner: Completer | None = None

    def around(self, inner: Completer) -> Completer:
        self._inner = inner
        return self

    def complete(self, request: ChatRequest) -> Answer:
        assert self._inner is not None  # set by `around`, before anything is asked
        answer = self._inner.complete(request)
        told = zip(NAMED, (answer.resolved_model, answer.system_fingerprint), strict=True)
        self._names.update(f"{what} {name}" for what, name in told if name)
        return answer

    @property
    def names(self) -> list[str]:
        return sorted(self._names)


def told_otherwise(before: Collection[str], now: Collection[str]) -> list[str]:
    """In words, what the endpoint calls itself now and never did; of what it did not tell before, nothing."""
    words = []
    for what in NAMED:
        former, latter = (
            sorted(n.removeprefix(f"{what} ") for n in names if n.startswith(f"{what} ")) for names in (before, now)
        )
        if former and (new := [name for name in latter if name not in former]):
            words.append(f"the endpoint names another {what}: {', '.join(new)}; until now {', '.join(former)}")
    return words
