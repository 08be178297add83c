"""From an HTTP response to an answer or an error, the same for every protocol over HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fute.errors import ModelError
from fute.llm.failures import Secret, TransientError, UnusableAnswer, error_of, from_status
from fute.llm.input_errors import fault_of_input
from fute.llm.types import FILTERED, Answer, ChatRequest
from fute.llm.wire import Wire

_UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_SURROGATE = re.compile("[\ud800-\udfff]")


def http_answer(
    wire: Wire,
    where: str,
    request: ChatRequest,
    status: int,
    headers: Mapping[str, str],
    body: str,
    *,
    latency_ms: float,
    secret: Secret,
) -> Answer:
    """The answer that a response holds, free of the key.

    An error that is about the one input is an answer too: a refusal, or that it is too long.

    Args:
        headers: lower-case names.
        body: as it came.

    Raises:
        TransientError: worth another attempt.
        ModelError: not worth one.
    """
    body = secret.remove_from(body)
    content_type = secret.remove_from(headers.get("content-type", ""))
    try:
        said = _cleaned(json.loads(body), secret) if "\\" in body else json.loads(body)
    except (RecursionError, ValueError):
        said = None
    if status >= 300:
        return _declined(where, status, headers, body if said is None else said, latency_ms, bool(secret))
    if said is None:
        raise _no_json(where, content_type, body)
    if isinstance(said, dict) and isinstance(said.get("error"), dict):
        # Routers report the failure of the host behind them with status 200.
        code = said["error"].get("code")
        behind = code if isinstance(code, int) and 400 <= code < 600 else 500
        return _declined(where, behind, {}, said, latency_ms, bool(secret))
    try:
        answer = wire.read(where, request, said, latency_ms)
    except ModelError:
        raise
    except _UNREADABLE as exc:
        # Whatever a server writes, it must not end the run with an error of ours that nobody expects.
        raise TransientError(f"{where}: the answer cannot be read ({type(exc).__name__})") from None
    if answer.logprobs and secret.is_in("".join(position.token for position in answer.logprobs)):
        return replace(answer, logprobs=None)  # token by token, none of which is the key
    return answer


def _declined(
    where: str, status: int, headers: Mapping[str, str], said: Any, latency_ms: float, has_key: bool
) -> Answer:
    code, message = error_of(said)
    reason = fault_of_input(status, code, message)
    if reason == FILTERED:
        return Answer("", latency_ms=latency_ms, finish_reason=reason)
    if reason is not None:
        # Turned away before any model saw it, so that it cost nothing.
        return Answer(
            f"HTTP {status}: {message}", tokens_in=0, tokens_out=0, latency_ms=latency_ms, finish_reason=reason
        )
    raise from_status(where, status, headers, said, has_key)


def _cleaned(value: Any, secret: Secret) -> Any:
    """JSON without the key and without halves of characters, which no file and no database takes. Both can stand in a
    body only in escapes (\\u002d for "-"), so that the text of the body does not show them."""
    if isinstance(value, str):
        return secret.remove_from(_SURROGATE.sub("\ufffd", value))
    if isinstance(value, list):
        return [_cleaned(item, secret) for item in value]
    if isinstance(value, dict):
        return {_cleaned(name, secret): _cleaned(item, secret) for name, item in value.items()}
    return value


def _no_json(where: str, content_type: str, body: str) -> ModelError:
    if "html" in content_type:
        return UnusableAnswer(f"{where}: a web page came back, not JSON; check base_url (it mostly ends in /v1)")
    return TransientError(f"{where}: the answer is not JSON ({len(body):,} characters, {content_type or 'no type'})")
