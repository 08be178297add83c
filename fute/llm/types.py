"""Requests and answers, and the one call that every layer of the client offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, NamedTuple, Protocol

from fute.fingerprint import fingerprint

FILTERED = "content_filter"
TOO_LONG = "too_long"
UNPROCESSABLE = "unprocessable"
REFUSALS = (FILTERED, "refusal", TOO_LONG, UNPROCESSABLE)
"""Finish reasons that say why there is no answer to this input."""

SCORED = "scored"
"""Finish reason of an answer that was not generated: the words that were asked about were scored, each exactly."""

CHAT = "openai_chat"

CHARACTERS_A_TOKEN = 4.0  # of English text under the usual vocabularies; other languages and code take more tokens
TOKENS_A_MESSAGE = 8  # role, separators, and the beginning of the answer, at most


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
        sample: which of several answers to the same question this is; kept, it answers that sample again. None: just an
            answer, which is kept for the next who asks only where all would be the same (temperature 0).
        api: the protocol, a name of fute.llm.providers; the same words asked in another protocol are another question.
        echo: asks for nothing new but for the prompt itself with its tokens' log-probabilities (completions only).
        candidates: the words whose probabilities are wanted, where a provider scores words instead of generating.
        extra: more fields of the request's body; None leaves one out that would be sent.
    """

    service: str
    base_url: str
    model: str
    messages: tuple[Message, ...]
    temperature: float = 0.0
    max_tokens: int = 8
    top_logprobs: int | None = 20
    sample: int | None = None
    api: str = CHAT
    echo: bool = False
    candidates: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def params(self) -> dict[str, Any]:
        params: dict[str, Any] = {
            "temperature": float(self.temperature),
            "max_tokens": self.max_tokens,
            "top_logprobs": self.top_logprobs,
            "sample": self.sample or 0,
        }
        # Said only where it is not the usual, so that answers kept before there was a choice are still found.
        if self.api != CHAT:
            params["api"] = self.api
        if self.echo:
            params["echo"] = True
        if self.candidates:
            params["candidates"] = list(self.candidates)
        if self.extra:
            params["extra"] = dict(self.extra)
        return params

    @property
    def repeatable(self) -> bool:
        """Whether an answer kept under this request's key answers it again."""
        return self.temperature == 0 or self.sample is not None

    @property
    def as_text(self) -> str:
        """The conversation as one text, a message a line, for whoever knows no roles."""
        return "\n".join(message.content for message in self.messages)

    @property
    def likely_tokens(self) -> int:
        """In and out together, as a service reckons beforehand: the whole room for the answer counts."""
        characters = sum(len(message.content) for message in self.messages)
        return ceil(characters / CHARACTERS_A_TOKEN) + TOKENS_A_MESSAGE * len(self.messages) + self.max_tokens

    @property
    def most_tokens_in(self) -> int:
        """No vocabulary in use makes more than one token of one byte, so a prompt cannot cost more than this."""
        return sum(len(message.content.encode()) + TOKENS_A_MESSAGE for message in self.messages)

    @property
    def key(self) -> str:
        """The identity under which the answer is kept. No API key is part of a request, so none can be part of this."""
        # Kept as functools.cached_property would, but for its lock: before Python 3.12 that is one for all requests, at
        # which threads queue, and which a fork may find taken for ever.
        kept = self.__dict__
        if "_key" not in kept:
            kept["_key"] = fingerprint(
                service=self.service,
                model=self.model,
                messages=[[message.role, message.content] for message in self.messages],
                **self.params,
            )
        return str(kept["_key"])


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        text: the answer, empty where there was none.
        logprobs: one entry for each token of the answer; None where the endpoint gave none.
        tokens_in, tokens_out: as the endpoint counted them; None where it did not.
        latency_ms: of the one HTTP call that brought the answer.
        resolved_model: the model's name as the endpoint gave it back.
        finish_reason: stop, length, content_filter, refusal, too_long (turned away for its length) ...
        from_cache: it was not asked for now, and nothing was paid now.
        prompt_cut: the prompt did not fit and lost its middle; known when it is asked, and not kept.
        system_fingerprint: what the endpoint calls its configuration; known when it is asked, and not kept.
        key: under which the ledger has it; None: it has gone through none.
    """

    text: str
    logprobs: tuple[TokenLogprobs, ...] | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    latency_ms: float = 0.0
    resolved_model: str | None = None
    finish_reason: str | None = None
    from_cache: bool = False
    prompt_cut: bool = False
    system_fingerprint: str | None = field(default=None, compare=False)
    key: str | None = field(default=None, compare=False)

    @property
    def refused(self) -> bool:
        return self.finish_reason in REFUSALS

    @property
    def turned_away(self) -> bool:
        """The server rejected the input for what it is; `text` is what it said."""
        return self.finish_reason in (TOO_LONG, UNPROCESSABLE)

    @property
    def empty(self) -> bool:
        """Neither an answer nor a refusal."""
        return not self.refused and not self.text.strip() and not self.logprobs


class Completer(Protocol):
    """A layer of the client: transport, retry, limits, cache. Each wraps the next."""

    def complete(self, request: ChatRequest) -> Answer:
        """Answer one request. Safe to call from many threads. Raises ModelError when there is no answer."""
