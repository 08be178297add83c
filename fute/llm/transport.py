"""One HTTP call through the official `openai` SDK: no retries, no redirects, TLS verified, size and time bounded."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai

from fute.errors import ModelError
from fute.llm.failures import Secret, TransientError, error_of, from_status
from fute.llm.types import Answer, ChatRequest
from fute.llm.wire import read_answer, request_body

MAX_RESPONSE_BYTES = 4_000_000  # a chat answer with 20 log-probabilities a token is a few kilobytes
CONNECT_TIMEOUT_S = 10.0


class Transport:
    """The innermost layer.

    Args:
        api_key: sent as a bearer token; None: no Authorization header. Held in memory only, never shown.
        timeout_s: for the whole exchange.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self._secret = Secret(api_key)
        self._base_url = base_url
        self._where = base_url.partition("?")[0]
        self._timeout_s = timeout_s
        self._max_bytes = max_response_bytes
        # Proxies and certificate bundles come from the environment, as for every client; loopback needs neither.
        self._trust_env = (urlsplit(base_url).hostname or "") not in ("localhost", "127.0.0.1", "::1")
        self._tls = httpx.create_ssl_context(trust_env=self._trust_env)  # once: it reads all certificates
        # Without a key the header is left out, which the SDK wants to be told with each request.
        self._options: Any = {} if self._secret else {"headers": {"Authorization": openai.Omit()}}
        # As many clients as requests were ever in flight at once, with a connection each. One client for all threads
        # costs more than the requests do: its pool walks over all connections, under a lock, for each request.
        self._idle: deque[openai.OpenAI] = deque()

    def complete(self, request: ChatRequest) -> Answer:
        """Ask once.

        Raises:
            TransientError: worth another attempt.
            ModelError: not worth one.
        """
        started = time.perf_counter()
        where = f"{self._where} ({request.model})"
        answered = self._post(where, request_body(request))
        if isinstance(answered, ModelError):
            raise answered
        latency_ms = (time.perf_counter() - started) * 1000
        body = self._secret.remove_from(answered.text)
        status = answered.status_code
        if status == 400 and error_of(body)[0] == "content_filter":
            # How some hosts say that their filter stopped the prompt: this one input has no answer, the others may.
            return Answer("", latency_ms=latency_ms, finish_reason="content_filter")
        if status >= 300:
            raise from_status(where, status, answered.headers, body, bool(self._secret))
        payload = _json(where, answered.headers.get("content-type", ""), body)
        if isinstance(payload, dict) and isinstance(payload.get("error"), dict):
            # Routers report the failure of the host behind them with status 200.
            code = payload["error"].get("code")
            raise from_status(
                where, code if isinstance(code, int) and code >= 400 else 500, {}, body, bool(self._secret)
            )
        return read_answer(where, payload, latency_ms)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _post(self, where: str, body: dict[str, Any]) -> httpx.Response | ModelError:
        # Errors are returned and raised by the caller, outside of the except clauses: inside, the SDK's exception
        # with its headers would become their context.
        try:
            client = self._idle.pop()  # the last one used: its connection is the least likely to have been closed
        except IndexError:
            client = self._new_client()
        try:
            return client.post("/chat/completions", cast_to=httpx.Response, body=body, options=self._options)
        except openai.APIStatusError as exc:
            return exc.response  # type: ignore[return-value]  # of the class of the client that was given
        except openai.APITimeoutError:
            return TransientError(f"{where}: no answer within {self._timeout_s:g} s")
        except openai.APIConnectionError as exc:
            if isinstance(exc.__cause__, _Refused):
                return ModelError(f"{where}: {exc.__cause__}")
            cause = self._secret.remove_from(str(exc.__cause__ or exc))
            return TransientError(f"{where}: the connection failed: {cause}")
        finally:
            self._idle.append(client)

    def _new_client(self) -> openai.OpenAI:
        http = httpx.Client(
            verify=self._tls,
            follow_redirects=False,
            timeout=httpx.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s)),
            trust_env=self._trust_env,
            event_hooks={"response": [self._bound]},
        )
        # Said explicitly, or the SDK would take them from the environment and send them to whatever base_url names.
        headers: dict[str, Any] = {
            "OpenAI-Organization": openai.Omit(),
            "OpenAI-Project": openai.Omit(),
            # Unpacking is where a small answer can become a large one.
            "Accept-Encoding": "identity",
        }
        return openai.OpenAI(
            base_url=self._base_url,
            api_key=self._secret.reveal() or "none",
            max_retries=0,
            default_headers=headers,
            http_client=http,  # type: ignore[arg-type]  # 3.x takes httpx and httpx2, its annotation says httpx2
        )

    def _bound(self, response: httpx.Response) -> None:
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise _Refused(f"the answer is compressed ({encoding}), though that was not asked for")
        # The stream of a response that has not been read yet is where httpx takes its bytes from.
        response.stream = _BoundedStream(response.stream, self._max_bytes, self._timeout_s)


class _Refused(httpx.RequestError):
    """An answer that is not taken, now or later."""


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, inner: Any, max_bytes: int, timeout_s: float) -> None:
        self._inner = inner
        self._max_bytes = max_bytes
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        for chunk in self._inner:
            received += len(chunk)
            if received > self._max_bytes:
                raise _Refused(f"the answer is larger than {self._max_bytes:,} bytes")
            # httpx limits the wait for each piece; a server that drips would be waited for without end.
            if time.monotonic() > self._deadline:
                raise httpx.ReadTimeout(f"no complete answer within {self._timeout_s:g} s")
            yield chunk

    def close(self) -> None:
        self._inner.close()


def _json(where: str, content_type: str, body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        pass
    if "html" in content_type:
        raise ModelError(f"{where}: a web page came back, not JSON; check base_url (it mostly ends in /v1)")
    raise TransientError(f"{where}: the answer is not JSON ({len(body):,} characters, {content_type or 'no type'})")
