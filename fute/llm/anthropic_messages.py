"""Anthropic's messages protocol, through the official `anthropic` SDK: no retries, no redirects, bounded.

It has no log-probabilities, so that answers are read as text or drawn several times.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from fute.config import EndpointConfig
from fute.errors import ConfigError, ModelError
from fute.llm.exchange import CONNECT_TIMEOUT_S, MAX_RESPONSE_BYTES, is_loopback, tls_context
from fute.llm.failures import Secret, TransientError
from fute.llm.http_answer import http_answer
from fute.llm.types import Answer, ChatRequest, Completer
from fute.llm.wire import Wire, text_or_none, token_counts, with_extra

try:
    import anthropic
    import httpx2
except ImportError as exc:
    raise ConfigError("api: anthropic needs its SDK; install it with: pip install 'fute[anthropic]'") from exc

FINISHED = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "refusal": "refusal"}
"""Anthropic's reasons to stop in the words of the other protocols."""


def connect(endpoint: EndpointConfig, api_key: str | None) -> Completer:
    return AnthropicMessages(endpoint.address, api_key=api_key, timeout_s=endpoint.timeout_s)


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
    if not isinstance(content, list):
        raise TransientError(f"{where}: the answer has no content")
    texts = [block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text"]
    if not all(isinstance(text, str) for text in texts):
        raise TransientError(f"{where}: the answer holds a text block without a text")
    tokens_in, tokens_out = token_counts(payload, "input_tokens", "output_tokens")
    reason = text_or_none(payload.get("stop_reason"))
    return Answer(
        text="".join(text for text in texts if text),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        latency_ms=latency_ms,
        resolved_model=text_or_none(payload.get("model")),
        finish_reason=FINISHED.get(reason, reason) if reason else None,
    )


WIRE = Wire("/v1/messages", request_body, read_answer)


class AnthropicMessages:
    """The innermost layer.

    Args:
        api_key: sent in the header that the SDK has for it; None: no such header. Held in memory only, never shown.
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
        # The SDK's own paths begin with /v1, and other APIs have taught everyone to write it into the address.
        self._base_url = base_url.rstrip("/").removesuffix("/v1")
        self._timeout_s = timeout_s
        self._max_bytes = max_response_bytes
        self._tls = tls_context()
        omitted = {name: anthropic.Omit() for name in ("X-Api-Key", "Authorization")}
        self._options: Any = {} if self._secret else {"headers": omitted}
        # A client, and with it a connection, for each request in flight.
        self._idle: deque[anthropic.Anthropic] = deque()

    def complete(self, request: ChatRequest) -> Answer:
        """Ask once.

        Raises:
            TransientError: worth another attempt.
            ModelError: not worth one.
        """
        started = time.perf_counter()
        where = f"{self._base_url} ({request.model})"
        answered = self._post(where, request_body(request))
        if isinstance(answered, ModelError):
            raise answered
        latency_ms = (time.perf_counter() - started) * 1000
        body = self._secret.remove_from(answered.text)
        return http_answer(
            WIRE,
            where,
            request,
            answered.status_code,
            answered.headers,
            body,
            latency_ms=latency_ms,
            has_key=bool(self._secret),
        )

    def _post(self, where: str, body: dict[str, Any]) -> httpx2.Response | ModelError:
        # Errors are returned and raised by the caller: within the except clauses the SDK's exception, which holds the
        # request with its key, would become their context.
        try:
            client = self._idle.pop()
        except IndexError:
            client = self._new_client()
        try:
            return client.post(WIRE.path, cast_to=httpx2.Response, body=body, options=self._options)
        except anthropic.APIStatusError as exc:
            return exc.response
        except anthropic.APITimeoutError as exc:
            unsent = isinstance(exc.__cause__, httpx2.ConnectTimeout)
            return TransientError(f"{where}: no answer within {self._timeout_s:g} s", may_be_charged=not unsent)
        except anthropic.APIConnectionError as exc:
            if isinstance(exc.__cause__, _Refused):
                return ModelError(f"{where}: {exc.__cause__}")
            cause = self._secret.remove_from(str(exc.__cause__ or exc))
            unsent = isinstance(exc.__cause__, httpx2.ConnectError)
            return TransientError(f"{where}: the connection failed: {cause}", may_be_charged=not unsent)
        finally:
            self._idle.append(client)

    def _new_client(self) -> anthropic.Anthropic:
        http = httpx2.Client(
            verify=self._tls,
            follow_redirects=False,
            timeout=httpx2.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s)),
            trust_env=not is_loopback(self._base_url),
            event_hooks={"response": [self._bound]},
        )
        return anthropic.Anthropic(
            base_url=self._base_url,
            # Said always, or the SDK would look for keys in the environment and in files, and send what it finds.
            api_key=self._secret.reveal() or "none",
            max_retries=0,
            # Unpacking is where a small answer can become a large one.
            default_headers={"Accept-Encoding": "identity"},
            http_client=http,
        )

    def _bound(self, response: httpx2.Response) -> None:
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise _Refused(f"the answer is compressed ({encoding}), though that was not asked for")
        response.stream = _BoundedStream(response.stream, self._max_bytes, self._timeout_s)


class _Refused(httpx2.RequestError):
    """An answer that is not taken, now or later."""


class _BoundedStream(httpx2.SyncByteStream):
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
            # The library limits the wait for each piece; a server that drips would be waited for without end.
            if time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout(f"no complete answer within {self._timeout_s:g} s")
            yield chunk

    def close(self) -> None:
        self._inner.close()
