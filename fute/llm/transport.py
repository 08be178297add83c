"""One HTTP call through the official `openai` SDK: no retries, no redirects, TLS verified, size and time bounded."""

from __future__ import annotations

import json
import time
from collections import deque
from typing import Any, NamedTuple

import httpx
import openai

from fute.errors import ModelError
from fute.llm.exchange import (
    MAX_RESPONSE_BYTES,
    GuardedClient,
    Received,
    Refused,
    guarded_client,
    received,
    tls_context,
)
from fute.llm.failures import Secret, TransientError
from fute.llm.http_answer import http_answer
from fute.llm.types import Answer, ChatRequest
from fute.llm.wire import CHAT_WIRE, Wire


class Transport:
    """The innermost layer.

    Args:
        api_key: sent as a bearer token; None: no Authorization header. Held in memory only, never shown.
        timeout_s: for the whole exchange.
        wire: the protocol that is spoken.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        wire: Wire = CHAT_WIRE,
    ) -> None:
        self._wire = wire
        self._secret = Secret(api_key)
        self._base_url = base_url
        # Whole, or the SDK would put it together for each request, which takes longer than sending it.
        self._url = base_url.rstrip("/") + wire.path
        self._where = base_url.partition("?")[0]
        self._timeout_s = timeout_s
        self._max_bytes = max_response_bytes
        self._tls = tls_context()
        # Without a key the header is left out, which the SDK wants to be told with each request.
        self._options: Any = {} if self._secret else {"headers": {"Authorization": openai.Omit()}}
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
        body = self._secret.remove_from(answered.text)
        return http_answer(
            self._wire,
            where,
            request,
            answered.status_code,
            answered.headers,
            body,
            latency_ms=latency_ms,
            has_key=bool(self._secret),
        )

    def close(self) -> None:
        while self._idle:
            self._idle.pop().sdk.close()

    def _post(self, where: str, body: dict[str, Any]) -> Received | ModelError:
        # Errors are returned and raised by the caller, outside of the except clauses: inside, the SDK's exception
        # with its headers would become their context.
        try:
            line = self._idle.pop()  # the last one used: its connection is the least likely to have been closed
        except IndexError:
            line = self._new_line()
        try:
            return self._exchange(line, body)
        except openai.APIStatusError as exc:
            return received(exc.response)  # type: ignore[arg-type]  # of the class of the client that was given
        except openai.APIConnectionError as exc:  # a timeout as well
            cause: BaseException = exc.__cause__ or exc
        except httpx.RequestError as exc:
            cause = exc
        finally:
            self._idle.append(line)
        if isinstance(cause, Refused):
            return ModelError(f"{where}: {cause}")
        if isinstance(cause, httpx.TimeoutException):
            return TransientError(f"{where}: no answer within {self._timeout_s:g} s")
        sent = not isinstance(cause, httpx.ConnectError)
        says = self._secret.remove_from(str(cause))
        return TransientError(f"{where}: the connection failed: {says}", may_be_charged=sent)

    def _exchange(self, line: _Line, body: dict[str, Any]) -> Received:
        """The SDK makes the first request (address, headers, key); those that follow are like it but for their body."""
        if self._made is not None:
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            return line.http.repeat(self._made, content.encode())
        response = line.sdk.post(self._url, cast_to=httpx.Response, body=body, options=self._options)
        self._made = response.request
        return received(response)

    def _new_line(self) -> _Line:
        http = guarded_client(
            self._base_url, timeout_s=self._timeout_s, max_response_bytes=self._max_bytes, tls=self._tls
        )
        # Said explicitly, or the SDK would take them from the environment and send them to whatever base_url names.
        headers: dict[str, Any] = {
            "OpenAI-Organization": openai.Omit(),
            "OpenAI-Project": openai.Omit(),
            # Unpacking is where a small answer can become a large one.
            "Accept-Encoding": "identity",
        }
        sdk = openai.OpenAI(
            base_url=self._base_url,
            api_key=self._secret.reveal() or "none",
            max_retries=0,
            default_headers=headers,
            http_client=http,  # type: ignore[arg-type]  # 3.x takes httpx and httpx2, its annotation says httpx2
        )
        return _Line(sdk, http)


class _Line(NamedTuple):
    """One connection, and the SDK's client on it."""

    sdk: openai.OpenAI
    http: GuardedClient
