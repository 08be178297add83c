"""One HTTP call through an official SDK: no retries, no redirects, TLS verified, size and time bounded.

The SDK makes the first request, and sends it through the guarded client; those that follow are like it but for their
body. It is never given the key: the guarded client adds that, to the headers that it lets through.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import openai

from fute.errors import ConfigError, ModelError
from fute.llm.address import sent_in_the_clear
from fute.llm.exchange import (
    MAX_RESPONSE_BYTES,
    GuardedClient,
    Received,
    Refused,
    RefusedAnswer,
    guarded_client,
    received,
    tls_context,
)
from fute.llm.failures import Secret, TransientError, UnusableAnswer
from fute.llm.http_answer import http_answer
from fute.llm.types import Answer, ChatRequest
from fute.llm.wire import CHAT_WIRE, Wire

NO_KEY = "none"  # what the SDKs are given for one: without any they would look for it in the environment

Post = Callable[[str, dict[str, Any]], httpx.Response]
"""(address, body) -> the response, whatever its status. Raises httpx.RequestError, as the guarded client did."""


def openai_sdk(http: GuardedClient, base_url: str) -> Post:
    """The `openai` SDK on a guarded client."""
    # 3.x takes httpx and httpx2, its annotation says httpx2.
    sdk = openai.OpenAI(base_url=base_url, api_key=NO_KEY, max_retries=0, http_client=http)  # type: ignore[arg-type]

    def post(url: str, body: dict[str, Any]) -> httpx.Response:
        try:
            return sdk.post(url, cast_to=httpx.Response, body=body)
        except openai.APIStatusError as exc:
            return exc.response  # type: ignore[return-value]  # of the class of the client that was given
        except openai.APIConnectionError as exc:  # a timeout as well
            if exc.__cause__ is None:
                raise
            failure = exc.__cause__
        raise failure

    return post


class Transport:
    """The innermost layer.

    Args:
        api_key: sent in one header; None: no such header. Held in memory only, never shown.
        timeout_s: for the whole exchange.
        wire: the protocol that is spoken.
        sdk: the SDK on a client of ours.
        key_header: name of the header, and what stands before the key in it.

    Raises:
        ConfigError: the key would go over plain http to another machine, or cannot stand in a header.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        wire: Wire = CHAT_WIRE,
        sdk: Callable[[GuardedClient, str], Post] = openai_sdk,
        key_header: tuple[str, str] = ("Authorization", "Bearer "),
    ) -> None:
        self._wire = wire
        self._sdk = sdk
        self._secret = Secret(api_key)
        self._key_header = key_header
        self._base_url = base_url
        if self._secret and (problem := sent_in_the_clear(base_url)) is not None:
            raise ConfigError(problem)
        # Whole, or the SDK would put it together for each request, which takes longer than sending it.
        self._url = base_url.rstrip("/") + wire.path
        self._where = base_url.partition("?")[0]
        self._timeout_s = timeout_s
        self._max_bytes = max_response_bytes
        self._tls = tls_context()
        # As many clients as requests were ever in flight at once, with a connection each. One client for all threads
        # costs more than the requests do: its pool walks over all connections, under a lock, for each request.
        self._idle: deque[_Line] = deque()
        self._made: httpx.Request | None = None

    def complete(self, request: ChatRequest) -> Answer:
        """Ask once.

        Raises:
            TransientError: worth another attempt.
            ModelError: not worth one.
        """
        started = time.perf_counter()
        where = f"{self._where} ({request.model})"
        answered = self._post(where, self._wire.body(request))
        if isinstance(answered, ModelError):
            raise answered
        latency_ms = (time.perf_counter() - started) * 1000
        return http_answer(
            self._wire,
            where,
            request,
            answered.status_code,
            answered.headers,
            answered.text,
            latency_ms=latency_ms,
            secret=self._secret,
        )

    def close(self) -> None:
        while self._idle:
            self._idle.pop().http.close()

    def _post(self, where: str, body: dict[str, Any]) -> Received | ModelError:
        # Errors are returned and raised by the caller, outside of the except clauses: inside, the library's exception
        # with its headers would become their context.
        try:
            line = self._idle.pop()  # the last one used: its connection is the least likely to have been closed
        except IndexError:
            line = self._new_line()
        cause: httpx.RequestError
        try:
            return self._exchange(line, body)
        except httpx.RequestError as exc:
            cause = exc
        finally:
            self._idle.append(line)
        says = self._secret.remove_from(str(cause))  # it may quote a header of the answer
        if isinstance(cause, Refused):
            kind = UnusableAnswer if isinstance(cause, RefusedAnswer) else ModelError
            return kind(f"{where}: {says}")
        sent = not isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout)
        if isinstance(cause, httpx.TimeoutException):
            return TransientError(f"{where}: no answer within {self._timeout_s:g} s", may_be_charged=sent)
        return TransientError(f"{where}: the connection failed: {says}", may_be_charged=sent)

    def _exchange(self, line: _Line, body: dict[str, Any]) -> Received:
        if self._made is not None:
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            return line.http.repeat(self._made, content.encode())
        response = line.post(self._url, body)
        self._made = response.request
        return received(response)

    def _new_line(self) -> _Line:
        name, before = self._key_header
        http = guarded_client(
            self._base_url,
            timeout_s=self._timeout_s,
            max_response_bytes=self._max_bytes,
            tls=self._tls,
            key=(name, before + self._secret.reveal()) if self._secret else None,
        )
        return _Line(self._sdk(http, self._base_url), http)


class _Line(NamedTuple):
    """One connection, and the SDK's client on it."""

    post: Post
    http: GuardedClient
