"""From an HTTP response to an answer or an error, the same for every protocol over HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

from fute.errors import ModelError
from fute.llm.asked_waits import wait_asked_s
from fute.llm.failures import InputFailed, Secret, TransientError, UnusableAnswer
from fute.llm.server_words import error_of, fault_of_input, named_words, speaks_of_length
from fute.llm.types import Answer, ChatRequest
from fute.llm.wire import Wire, text_or_none

MOST_TOKENS = 2**53
"""No count is as large; above it, floats and tables disagree about whole numbers."""

TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
OF_THE_ENDPOINT = frozenset({401, 402, 404, 405, 407})
"""No input changes these: key, account, address."""

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

    An error that says it is about the one input is an answer too: a refusal, or that it is too long.

    Args:
        headers: lower-case names.
        body: as it came.

    Raises:
        TransientError: worth another attempt.
        InputFailed: not worth one, and it may be for the input.
        ModelError: not worth one.
    """
    body = secret.remove_from(body.removeprefix("\ufeff"))
    said = _parsed(body, secret)
    if status >= 300:
        return _declined(where, status, headers, body if said is None else said, latency_ms, secret)
    if said is None:
        _raise_no_json(where, secret.remove_from(headers.get("content-type", "")), body)
    if (error := _error_in(said)) is not None:
        code, _ = error_of(error)
        behind = int(code) if code is not None and code.isdecimal() else 0
        return _declined(where, behind if 400 <= behind < 600 else None, headers, error, latency_ms, secret)
    with _readable(where):
        answer = wire.read(where, request, said)
    if answer.logprobs and secret.is_in("".join(position.token for position in answer.logprobs)):
        answer = replace(answer, logprobs=None)  # token by token, none of which is the key
    usage = said.get("usage")
    return replace(
        answer,
        tokens_in=_count(usage, "prompt_tokens", "input_tokens"),
        tokens_out=_count(usage, "completion_tokens", "output_tokens"),
        latency_ms=latency_ms,
        resolved_model=text_or_none(said.get("model")),
        system_fingerprint=text_or_none(said.get("system_fingerprint")),
    )


def _declined(
    where: str, status: int | None, headers: Mapping[str, str], said: Any, latency_ms: float, secret: Secret
) -> Answer:
    """The answer to an input that was rejected for what it is; raise any other error.

    Args:
        status: 300 or more; None: of an error within an answer with status 200 that does not say which it would have
            had, and may pass like one with 500.
    """
    code, message = error_of(said)
    if (reason := fault_of_input(status or 400, code, message)) is not None:
        # Turned away before any model saw it, so that it cost nothing.
        words = f"HTTP {status or 200}: {message}"
        return Answer(words, tokens_in=0, tokens_out=0, latency_ms=latency_ms, finish_reason=reason)
    shown, status = (f"HTTP {status}", status) if status is not None else ("an error with HTTP 200", 500)
    if status < 400:
        raise ModelError(f"{where}: {shown}: it redirects elsewhere, which is not followed; correct base_url")
    says = secret.remove_parts_from(
        f"{where}: {shown}{f' ({code})' if code not in (None, str(status)) else ''}{f': {message}' if message else ''}"
    )
    unpaid = code == "insufficient_quota"  # sent with status 429, but no waiting fills an account
    if not unpaid and (status in TRANSIENT_STATUS or status >= 500):
        if status >= 500 and speaks_of_length(code, message):
            raise InputFailed(says, too_long=True)
        wait_s = wait_asked_s(status, headers, said)
        # Surely no model has worked for it? A gateway gives 408, 500, 502 and 504 also when one had begun or answered.
        free = (status == 503 and wait_s is not None) or (status < 500 and status != 408)
        raise TransientError(says, wait_s, may_be_charged=not free)
    key = "the API key was refused" if secret else "no API key was sent"
    if status == 401:
        raise ModelError(f"{says}; {key}: set the environment variable that api_key_env names")
    if status == 404:
        raise ModelError(f"{says}; check base_url (it mostly ends in /v1) and the model's name")
    if status in OF_THE_ENDPOINT or unpaid:
        raise ModelError(says)
    if status == 403:
        says += f"; where it is not for what was asked, {key}: look at the environment variable that api_key_env names"
    raise InputFailed(says)


def _raise_no_json(where: str, content_type: str, body: str) -> NoReturn:
    if "event-stream" in content_type:
        raise UnusableAnswer(f"{where}: the answer came as a stream of events, though that was not asked for")
    if "html" in content_type:
        raise UnusableAnswer(f"{where}: a web page came back, not JSON; check base_url (it mostly ends in /v1)")
    raise TransientError(f"{where}: the answer is not JSON ({len(body):,} characters, {content_type or 'no type'})")


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Make any surprise in what a server wrote a TransientError: it must not end the run as a bug would."""
    try:
        yield
    except _UNREADABLE as exc:
        raise TransientError(f"{where}: the answer cannot be read ({type(exc).__name__})") from None


def _error_in(said: Any) -> Any | None:
    """The error in a body with status 200: routers report the failure of the host behind them so, and some servers all
    of theirs."""
    if isinstance(said, dict):
        if said.get("error"):
            return said
        choices = said.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict) and choices[0].get("error"):
            return choices[0]
        if "choices" in said or "content" in said:
            return None
    return said if named_words(said) else None


def _parsed(text: str, secret: Secret) -> Any | None:
    try:
        said = json.loads(text)
        return _cleaned(said, secret) if "\\" in text else said
    except (RecursionError, ValueError):
        return None


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


def _count(usage: Any, *names: str) -> int | None:
    """A number of tokens; None for anything else, so that it neither ends a run nor exhausts a budget."""
    value = next((usage[name] for name in names if name in usage), None) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_TOKENS else None
