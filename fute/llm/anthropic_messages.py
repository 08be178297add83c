"""Anthropic's messages protocol. It has no log-probabilities: answers are read as text, or drawn several times."""

from __future__ import annotations

from typing import Any

from fute.config import EndpointConfig
from fute.errors import ModelError
from fute.llm.failures import TransientError
from fute.llm.transport import Transport
from fute.llm.types import Answer, ChatRequest, Completer
from fute.llm.wire import DONE, Wire, dicts_in, text_of, text_or_none, token_counts, with_extra

VERSION = "2023-06-01"  # of the protocol

FINISHED = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "refusal": "refusal"}
"""Anthropic's reasons to stop in the words of the other protocols."""


def connect(endpoint: EndpointConfig, api_key: str | None) -> Completer:
    return Transport(
        # This protocol's paths begin with /v1, and other APIs have taught everyone to write it into the address.
        endpoint.address.rstrip("/").removesuffix("/v1"),
        api_key=api_key,
        timeout_s=endpoint.timeout_s,
        wire=MESSAGES_WIRE,
        key_header=("X-Api-Key", ""),
        headers={"Anthropic-Version": VERSION},
    )


def request_body(request: ChatRequest) -> dict[str, Any]:
    if request.echo:
        raise ModelError(f"{request.base_url} ({request.model}): Anthropic does not tell how probable a prompt is")
    system = "\n".join(message.content for message in request.messages if message.role == "system")
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [message._asdict() for message in request.messages if message.role != "system"],
        "max_tokens": request.max_tokens,
        "temperature": min(request.temperature, 1.0),  # its scale ends there
    }
    if system:
        body["system"] = system
    return with_extra(body, request)


def read_answer(where: str, request: ChatRequest, payload: Any, latency_ms: float) -> Answer:
    """The answer in a body with status 200: its text blocks, without what the model thought.

    Raises:
        TransientError: not the shape of a message.
    """
    content = payload.get("content") if isinstance(payload, dict) else None
    if not isinstance(content, list | str):
        raise TransientError(f"{where}: the answer has no content")
    tokens_in, tokens_out = token_counts(payload, "input_tokens", "output_tokens")
    reason = text_or_none(payload.get("stop_reason"))
    return Answer(
        text=text_of(where, content),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        latency_ms=latency_ms,
        resolved_model=text_or_none(payload.get("model")),
        finish_reason=FINISHED.get(reason, reason) if reason else None,
    )


def joined(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The events of a stream as the message in one piece that was asked for."""
    message: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    texts: list[str] = []
    ended = DONE in events
    for event in events:
        begun = event.get("message")
        if isinstance(begun, dict):
            message |= begun
            texts += [text_of("a stream", begun["content"])] if dicts_in(begun.get("content")) else []
        change = next((p for p in (event.get("delta"), event.get("content_block")) if isinstance(p, dict)), {})
        texts.append(text_or_none(change.get("text")) or "")
        message |= {name: change[name] for name in ("stop_reason", "stop_sequence") if name in change}
        usage |= next((u for u in (event.get("usage"), message.pop("usage", None)) if isinstance(u, dict)), {})
        ended = ended or event.get("type") == "message_stop"
    return {**message, "usage": usage, "content": "".join(texts)} if ended else None


MESSAGES_WIRE = Wire("/v1/messages", request_body, read_answer, joined)
