"""Requests and answers, and the one call that every layer of the client offers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from fute.fingerprint import fingerprint

REFUSALS = ("content_filter", "refusal")
"""Finish reasons with which an endpoint says that it declined to answer."""


class Message(NamedTuple):
    role: str
    content: str


class TokenLogprobs(NamedTuple):
    """One position of the answer.

    Attributes:
        token: the token that was generated.
        logprob: its natural log-probability.
        top: the most probable tokens at this position with theirs, as the endpoint gave them.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ChatRequest:
    """One question to a hosted model.

    Attributes:
        service: what makes it the same endpoint, wherever it is reached.
        base_url: where it is reached; no part of the identity.
        top_logprobs: how many log-probabilities are asked for at each position; None: none.
        sample: which of several answers to the same question this is; matters above temperature 0 only.
    """

    service: str
    base_url: str
    model: str
    messages: tuple[Message, ...]
    temperature: float = 0.0
    max_tokens: int = 8
    top_logprobs: int | None = 20
    sample: int = 0

    @property
    def params(self) -> dict[str, Any]:
        return {
            "temperature": float(self.temperature),
            "max_tokens": self.max_tokens,
            "top_logprobs": self.top_logprobs,
            "sample": self.sample,
        }

    @cached_property
    def key(self) -> str:
        """The identity under which the answer is kept. No API key is part of a request, so none can be part of this."""
        return fingerprint(
            service=self.service,
            model=self.model,
            messages=[[message.role, message.content] for message in self.messages],
            **self.params,
        )


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        text: the answer, empty where there was none.
        logprobs: one entry for each token of the answer; None where the endpoint gave none.
        tokens_in, tokens_out: as the endpoint counted them; None where it did not.
        latency_ms: of the one HTTP call that brought the answer.
        resolved_model: the model's name as the endpoint gave it back.
        finish_reason: stop, length, content_filter, refusal ...
        from_cache: it was not asked for now, and nothing was paid now.
    """

    text: str
    logprobs: tuple[TokenLogprobs, ...] | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    latency_ms: float = 0.0
    resolved_model: str | None = None
    finish_reason: str | None = None
    from_cache: bool = False

    @property
    def refused(self) -> bool:
        return self.finish_reason in REFUSALS

    @property
    def empty(self) -> bool:
        """Neither an answer nor a refusal. Never kept: the next run asks again."""
        return not self.refused and not self.text.strip() and not self.logprobs


class Completer(Protocol):
    """A layer of the client: transport, retry, limits, cache. Each wraps the next."""

    def complete(self, request: ChatRequest) -> Answer:
        """Answer one request. Safe to call from many threads. Raises ModelError when there is no answer."""
        ...
