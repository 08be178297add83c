"""The OpenAI chat protocol: a request as JSON, and JSON as an answer; and what the completions protocol shares with it.

Parsed by hand instead of through the SDK's classes: compatible servers leave fields out or send null, and a value of
the wrong type must become an error of ours and not a strange answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fute.errors import ModelError
from fute.llm.failures import TransientError
from fute.llm.types import Answer, ChatRequest, TokenLogprobs

LOWEST_LOGPROB = -100.0
"""Stands for minus infinity, which JSON does not have; endpoints write -9999 or -Infinity."""

PENALTIES = {"frequency_penalty": 0, "presence_penalty": 0}
"""Sent as zeros: a server may have others as its default, and a penalty for words of the prompt falls on the very words
that the prompt offers as answers. Servers with a field of their own (vLLM: repetition_penalty) take it from
`parameters` of the endpoint."""


@dataclass(frozen=True)
class Wire:
    """One protocol over HTTP and JSON.

    Attributes:
        path: below the base address.
        body: a request as JSON.
        read: (where, request, payload) -> what an answer with status 200 says. Raises TransientError for what servers
            under load send instead.
        key_header: where the API key goes.
        before_key: stands before it in the header.
        headers: more of them.
    """

    path: str
    body: Callable[[ChatRequest], dict[str, Any]]
    read: Callable[[str, ChatRequest, Any], Answer]
    key_header: str = "Authorization"
    before_key: str = "Bearer "
    headers: Mapping[str, str] = field(default_factory=dict)


def with_extra(body: dict[str, Any], request: ChatRequest) -> dict[str, Any]:
    """The body with the endpoint's own parameters; None takes a field out."""
    return {name: value for name, value in {**body, **request.extra}.items() if value is not None}


def request_body(request: ChatRequest) -> dict[str, Any]:
    if request.echo:
        raise ModelError(
            f"{request.base_url} ({request.model}): a chat does not tell how probable its prompt is; "
            "set api: openai_completions, where the server has it"
        )
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [message._asdict() for message in request.messages],
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        **PENALTIES,
    }
    if request.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    return with_extra(body, request)


def read_answer(where: str, request: ChatRequest, payload: Any) -> Answer:
    """Raises TransientError: no choices, or not the shape of a chat completion."""
    choice = first_choice(where, payload)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise TransientError(f"{where}: the answer's first choice has no message")
    content = message.get("content")
    refusal = message.get("refusal") or any(part.get("type") == "refusal" for part in dicts_in(content))
    return Answer(
        text="" if content is None else text_of(where, content),
        logprobs=_logprobs(choice.get("logprobs")),
        finish_reason="refusal" if refusal else text_or_none(choice.get("finish_reason")),
    )


CHAT_WIRE = Wire("/chat/completions", request_body, read_answer)


def first_choice(where: str, payload: Any) -> dict[str, Any]:
    choices = payload.get("choices") if isinstance(payload, dict) else None
    if not isinstance(choices, list) or not choices:
        raise TransientError(f"{where}: the answer has no choices")
    return choices[0] if isinstance(choices[0], dict) else {}


def text_of(where: str, content: Any) -> str:
    """The text of a message, given whole or in parts; what a model thought, and images, are no part of its answer.

    Raises:
        TransientError: no text, or not the shape of one.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list | dict):
        raise TransientError(f"{where}: the answer's message is no message with a text")
    texts = []
    for part in content if isinstance(content, list) else [content]:
        text = part
        if isinstance(part, dict):
            if part.get("type", "text") not in ("text", "output_text"):
                continue
            text = part.get("text")
        if not isinstance(text, str):
            raise TransientError(f"{where}: the answer holds a text block without a text")
        texts.append(text)
    return "".join(texts)


def dicts_in(value: Any) -> list[dict[str, Any]]:
    """The objects of a list, where it is one."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def logprob_or_none(value: Any) -> float | None:
    """A natural log-probability within its bounds; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before it becomes a float: JSON has whole numbers that no float can hold.
    return None if value != value else float(min(0, max(LOWEST_LOGPROB, value)))


def _logprobs(given: Any) -> tuple[TokenLogprobs, ...] | None:
    content = given.get("content") if isinstance(given, dict) else None
    if not isinstance(content, list) or not content:
        return None
    positions = []
    for entry in content:
        chosen = _pair(entry)
        if chosen is None:
            return None
        top = entry.get("top_logprobs")
        pairs = [pair for item in top if (pair := _pair(item))] if isinstance(top, list) else []
        positions.append(TokenLogprobs(*chosen, tuple(pairs) or (chosen,)))
    return tuple(positions)


def _pair(entry: Any) -> tuple[str, float] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
        return None
    logprob = logprob_or_none(entry.get("logprob"))
    return None if logprob is None else (entry["token"], logprob)
