"""The OpenAI chat protocol: a request as JSON, and JSON as an answer.

Parsed by hand instead of through the SDK's classes: compatible servers leave fields out or send null, and a value of
the wrong type must become an error of ours and not a strange answer.
"""

from __future__ import annotations

import math
from typing import Any

from fute.llm.failures import TransientError
from fute.llm.types import Answer, ChatRequest, TokenLogprobs

LOWEST_LOGPROB = -100.0
"""Stands for minus infinity, which JSON does not have; endpoints write -9999 or -Infinity."""


def request_body(request: ChatRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [message._asdict() for message in request.messages],
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
    }
    if request.top_logprobs is not None:
        body["logprobs"] = True
        body["top_logprobs"] = request.top_logprobs
    return body


def read_answer(where: str, payload: Any, latency_ms: float) -> Answer:
    """The answer in a body with status 200.

    Raises:
        TransientError: no choices, or not the shape of a chat completion (servers under load send such things).
    """
    choices = payload.get("choices") if isinstance(payload, dict) else None
    if not isinstance(choices, list) or not choices:
        raise TransientError(f"{where}: the answer has no choices")
    message = choices[0].get("message") if isinstance(choices[0], dict) else None
    text = message.get("content") if isinstance(message, dict) else 0
    if not isinstance(text, str | None):
        raise TransientError(f"{where}: the answer's first choice has no message with a text")
    refusal = isinstance(message, dict) and message.get("refusal")
    usage = payload.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Answer(
        text=text or "",
        logprobs=_logprobs(choices[0].get("logprobs")),
        tokens_in=_count(usage.get("prompt_tokens")),
        tokens_out=_count(usage.get("completion_tokens")),
        latency_ms=latency_ms,
        resolved_model=_text(payload.get("model")),
        finish_reason="refusal" if refusal else _text(choices[0].get("finish_reason")),
    )


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
    logprob = entry.get("logprob")
    if not isinstance(logprob, int | float) or math.isnan(logprob):
        return None
    return entry["token"], min(0.0, max(LOWEST_LOGPROB, float(logprob)))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
