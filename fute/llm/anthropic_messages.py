"""Anthropic's messages protocol. It has no log-probabilities: answers are read as text, or drawn several times."""

from __future__ import annotations

from typing import Any

from fute.config import EndpointConfig
from fute.errors import ModelError
from fute.llm.failures import TransientError
from fute.llm.transport import Transport
from fute.llm.types import Answer, ChatRequest, Completer
from fute.llm.wire import Wire, text_of, text_or_none, with_extra

VERSION = "2023-06-01"  # of the protocol

FINISHED = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "refusal": "refusal"}
"""Anthropic's reasons to stop in the words of the other protocols."""


def connect(endpoint: EndpointConfig, api_key: str | None) -> Completer:
    # This protocol's paths begin with /v1, and other APIs have taught everyone to write it into the address.
    address = endpoint.address.rstrip("/").removesuffix("/v1")
    return Transport(address, api_key=api_key, timeout_s=endpoint.timeout_s, wire=MESSAGES_WIRE)


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


def read_answer(where: str, request: ChatRequest, payload: Any) -> Answer:
    """Its text blocks, without what the model thought.

    Raises:
        TransientError: not the shape of a message.
    """
    content = payload.get("content") if isinstance(payload, dict) else None
    if not isinstance(content, list | str):
        raise TransientError(f"{where}: the answer has no content")
    reason = text_or_none(payload.get("stop_reason"))
    return Answer(text_of(where, content), finish_reason=FINISHED.get(reason, reason) if reason else None)


MESSAGES_WIRE = Wire(
    "/v1/messages",
    request_body,
    read_answer,
    key_header="X-Api-Key",
    before_key="",
    headers={"Anthropic-Version": VERSION},
)
