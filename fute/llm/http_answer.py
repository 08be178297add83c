"""From an HTTP response to an answer or an error, the same for every protocol over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fute.errors import ModelError
from fute.llm.failures import TransientError, error_of, from_status
from fute.llm.types import Answer, ChatRequest
from fute.llm.wire import Wire


def http_answer(
    wire: Wire,
    where: str,
    request: ChatRequest,
    status: int,
    headers: Mapping[str, str],
    body: str,
    *,
    latency_ms: float,
    has_key: bool,
) -> Answer:
    """The answer that a response holds.

    Args:
        headers: lower-case names.
        body: free of the key already.

    Raises:
        TransientError: worth another attempt.
        ModelError: not worth one.
    """
    if status == 400 and error_of(body)[0] == "content_filter":
        # How some hosts say that their filter stopped the prompt: this one input has no answer, the others may.
        return Answer("", latency_ms=latency_ms, finish_reason="content_filter")
    if status >= 300:
        raise from_status(where, status, headers, body, has_key)
    payload = _json(where, headers.get("content-type", ""), body)
    if isinstance(payload, dict) and isinstance(payload.get("error"), dict):
        # Routers report the failure of the host behind them with status 200.
        code = payload["error"].get("code")
        raise from_status(where, code if isinstance(code, int) and code >= 400 else 500, {}, body, has_key)
    return wire.read(where, request, payload, latency_ms)


def _json(where: str, content_type: str, body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        pass
    if "html" in content_type:
        raise ModelError(f"{where}: a web page came back, not JSON; check base_url (it mostly ends in /v1)")
    raise TransientError(f"{where}: the answer is not JSON ({len(body):,} characters, {content_type or 'no type'})")
