"""An HTTP client to give to an SDK, guarded and lean: no redirects, no cookies, one connection, size and time bounded.

The SDKs take an `httpx.Client`, and this one sends by itself, with the standard library's parser. What httpx and its
connection pool do beside that (redirects, cookies, authentication, a pool under a lock, a protocol machine) costs more
than the exchange itself, and none of it is wanted here. With many threads in one interpreter, processor time is what
bounds the calls a second (benchmarks/llm.py).
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from fute.llm.address import is_loopback
from fute.llm.connection import CONNECT_TIMEOUT_S, Connection, Refused, RefusedAnswer, compressed, connect, too_large

__all__ = ["Received", "Refused", "RefusedAnswer", "behind_proxy", "guarded_client", "received", "tls_context"]

MAX_RESPONSE_BYTES = 4_000_000  # a chat answer with 20 log-probabilities a token is a few kilobytes
FROM_THE_SDK = (b"user-agent", b"anthropic-version")
"""All that is taken of the headers of an SDK's request. The SDKs read more of them from the environment
(OPENAI_CUSTOM_HEADERS, ANTHROPIC_CUSTOM_HEADERS), another key among them, for whatever base_url names."""


class Received(NamedTuple):
    """What came back. Header names in lower case."""

    status_code: int
    headers: Mapping[str, str]
    text: str


class GuardedClient(httpx.Client):
    """
    Args:
        key: the one header that says who asks, name and value; it replaces what a request says about that.
    """

    def __init__(self, key: tuple[str, str] | None, **options: Any) -> None:
        super().__init__(follow_redirects=False, **options)
        self._key = None if key is None else (key[0].encode("ascii"), key[1].encode("ascii"))

    def headers_of(self, request: httpx.Request) -> list[tuple[bytes, bytes]]:
        """The headers that go out with a request, but for the length of its body."""
        return [
            (b"Host", request.url.netloc),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"Content-Type", b"application/json"),
            *((name, value) for name, value in request.headers.raw if name.lower() in FROM_THE_SDK),
            *(() if self._key is None else (self._key,)),
        ]

    def repeat(self, request: httpx.Request, content: bytes) -> Received:
        """Send a request like one that was made before, with another body.

        What an SDK does to make a request (options, headers, address, each checked and copied) takes as long as all
        else together, and comes out the same every time.
        """
        return received(self.send(httpx.Request(request.method, request.url, headers=request.headers, content=content)))


def received(response: httpx.Response) -> Received:
    return Received(response.status_code, response.headers, _text(response.content))


def guarded_client(
    base_url: str,
    *,
    timeout_s: float,
    max_response_bytes: int = MAX_RESPONSE_BYTES,
    tls: ssl.SSLContext | None = None,
    key: tuple[str, str] | None = None,
) -> GuardedClient:
    """A client for one thread at a time. Behind a proxy it is httpx that sends, with the same guards.

    Args:
        timeout_s: for the whole exchange.
        tls: shared between clients, since making one reads all certificates; default: a new one.
        key: the header with the API key, name and value.
    """
    kind = _PooledClient if behind_proxy(base_url) else _LeanClient
    return kind(timeout_s, max_response_bytes, tls or tls_context(), key)


def tls_context() -> ssl.SSLContext:
    """Certificates are verified, always. Bundles of one's own come from SSL_CERT_FILE, as for every client."""
    return httpx.create_ssl_context()


def behind_proxy(base_url: str) -> bool:
    """Whether the environment names a proxy for this address. Loopback never needs one."""
    url, proxies = urlsplit(base_url), getproxies()
    if is_loopback(base_url) or not (url.scheme in proxies or "all" in proxies):
        return False
    return not proxy_bypass(url.hostname or "")


class _LeanClient(GuardedClient):
    def __init__(
        self, timeout_s: float, max_response_bytes: int, tls: ssl.SSLContext, key: tuple[str, str] | None
    ) -> None:
        # A transport that is never used: without one, httpx would make a pool with certificates of its own.
        super().__init__(key, transport=httpx.BaseTransport(), trust_env=False, timeout=timeout_s)
        self._timeout_s = timeout_s
        self._max_bytes = max_response_bytes
        self._tls = tls
        self._connection: Connection | None = None
        self._repeated: tuple[httpx.Request, bytes] | None = None

    def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """One exchange. What the arguments may ask for beside it (redirects, authentication, streaming) is not done.

        Raises:
            httpx.TimeoutException: not complete in time, however steadily it dripped.
            Refused: its certificate is not trusted, or its answer is too large or compressed.
            httpx.ConnectError: there is no connection, and nothing was sent.
            httpx.NetworkError: the connection broke.
        """
        answered, body = self._exchange(request, self._head(request), request.read())
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answered.headers.items()]
        return httpx.Response(answered.status, headers=headers, content=body, request=request)

    def repeat(self, request: httpx.Request, content: bytes) -> Received:
        if self._repeated is None or self._repeated[0] is not request:
            self._repeated = (request, self._head(request))
        answered, body = self._exchange(request, self._repeated[1], content)
        headers = {name.lower(): value for name, value in answered.headers.items()}
        return Received(answered.status, headers, _text(body))

    def close(self) -> None:
        self._drop()
        super().close()

    def _exchange(self, request: httpx.Request, head: bytes, content: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        deadline = time.monotonic() + self._timeout_s
        try:
            if self._connection is None or not self._connection.usable_for(request.url):
                self._drop()
                self._connection = connect(request.url, self._tls, deadline)
            # In one piece: of two small ones, the second may wait until the first is acknowledged.
            sent = b"%sContent-Length: %d\r\n\r\n%s" % (head, len(content), content)
            answered, body = self._connection.exchange(request.method, sent, deadline, self._max_bytes)
        except BaseException as exc:
            self._drop()  # whatever is left on it belongs to this exchange
            if isinstance(exc, TimeoutError):
                raise httpx.ReadTimeout(f"no complete answer within {self._timeout_s:g} s") from exc
            if isinstance(exc, OSError | http.client.HTTPException):
                raise httpx.NetworkError(f"{type(exc).__name__}: {exc}") from exc
            raise
        if not self._connection.reusable:
            self._drop()
        return answered, body

    def _head(self, request: httpx.Request) -> bytes:
        """Request line and headers, but for the length of the body."""
        lines = [request.method.encode() + b" " + request.url.raw_path + b" HTTP/1.1"]
        for name, value in self.headers_of(request):
            if b"\r" in value or b"\n" in value:
                raise Refused(f"header {name.decode('latin-1')} of the request holds a line break")
            lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b""])

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _PooledClient(GuardedClient):
    """httpx as it is, for its proxies. The same bounds, as far as it lets: the size of the body is bounded, and the
    time for the whole exchange wherever a piece of the body comes in. Within the head of an answer and while the
    connection is made, each wait is bounded and not their sum: a proxy that drips its headers is waited for longer."""

    def __init__(
        self, timeout_s: float, max_response_bytes: int, tls: ssl.SSLContext, key: tuple[str, str] | None
    ) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_response_bytes
        self._deadline = 0.0
        super().__init__(
            key,
            verify=tls,
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            event_hooks={"response": [self._bound]},
        )

    def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        self._deadline = time.monotonic() + self._timeout_s
        headers = self.headers_of(request)
        return super().send(httpx.Request(request.method, request.url, headers=headers, content=request.read()))

    def _bound(self, response: httpx.Response) -> None:
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise compressed(encoding)
        if time.monotonic() > self._deadline:
            raise httpx.ReadTimeout("no complete answer in time")
        # The stream of a response that has not been read yet is where httpx takes its bytes from.
        response.stream = _BoundedStream(response.stream, self._max_bytes, self._deadline)


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, inner: Any, max_bytes: int, deadline: float) -> None:
        self._inner = inner
        self._max_bytes = max_bytes
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        for chunk in self._inner:
            received += len(chunk)
            if received > self._max_bytes:
                raise too_large(self._max_bytes)
            if time.monotonic() > self._deadline:
                raise httpx.ReadTimeout("no complete answer in time")
            yield chunk

    def close(self) -> None:
        self._inner.close()


def _text(body: bytes) -> str:
    # JSON is UTF-8, whatever else a server says.
    return body.decode("utf-8", errors="replace")
