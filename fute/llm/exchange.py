"""An HTTP client to give to an SDK, guarded and lean: no redirects, no cookies, one connection, size and time bounded.

The SDKs take an `httpx.Client`, and this one sends by itself, with the standard library's parser. What httpx and its
connection pool do beside that (redirects, cookies, authentication, a pool under a lock, a protocol machine) costs more
than the exchange itself, and none of it is wanted here. With many threads in one interpreter, processor time is what
bounds the calls a second (benchmarks/llm.py).
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

MAX_RESPONSE_BYTES = 4_000_000  # a chat answer with 20 log-probabilities a token is a few kilobytes
MAX_HEAD_BYTES = 100_000  # what an answer's headers may take beside it
CONNECT_TIMEOUT_S = 10.0
SURELY_OPEN_S = 1.0  # no server closes a connection that was idle for less


class Refused(httpx.RequestError):
    """An answer that is not taken, now or later."""


class Received(NamedTuple):
    """What came back. Header names in lower case."""

    status_code: int
    headers: Mapping[str, str]
    text: str


class GuardedClient(httpx.Client):
    def repeat(self, request: httpx.Request, content: bytes) -> Received:
        """Send a request like one that was made before, with another body.

        What an SDK does to make a request (options, headers, address, each checked and copied) takes as long as all
        else together, and comes out the same every time.
        """
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
        return received(self.send(httpx.Request(request.method, request.url, headers=headers, content=content)))


def received(response: httpx.Response) -> Received:
    return Received(response.status_code, response.headers, response.text)


def guarded_client(
    base_url: str, *, timeout_s: float, max_response_bytes: int = MAX_RESPONSE_BYTES, tls: ssl.SSLContext | None = None
) -> GuardedClient:
    """A client for one thread at a time. Behind a proxy it is httpx that sends, with the same guards.

    Args:
        timeout_s: for the whole exchange.
        tls: shared between clients, since making one reads all certificates; default: a new one.
    """
    kind = _PooledClient if behind_proxy(base_url) else _LeanClient
    return kind(timeout_s, max_response_bytes, tls or tls_context())


def tls_context() -> ssl.SSLContext:
    """Certificates are verified, always. Bundles of one's own come from SSL_CERT_FILE, as for every client."""
    return httpx.create_ssl_context()


def is_loopback(base_url: str) -> bool:
    return (urlsplit(base_url).hostname or "") in ("localhost", "127.0.0.1", "::1")


def behind_proxy(base_url: str) -> bool:
    """Whether the environment names a proxy for this address. Loopback never needs one."""
    url, proxies = urlsplit(base_url), getproxies()
    if is_loopback(base_url) or not (url.scheme in proxies or "all" in proxies):
        return False
    return not proxy_bypass(url.hostname or "")


class _LeanClient(GuardedClient):
    def __init__(self, timeout_s: float, max_response_bytes: int, tls: ssl.SSLContext) -> None:
        # A transport that is never used: without one, httpx would make a pool with certificates of its own.
        super().__init__(transport=httpx.BaseTransport(), trust_env=False, follow_redirects=False, timeout=timeout_s)
        self._timeout_s = timeout_s
        self._max_bytes = max_response_bytes
        self._tls = tls
        self._connection: _Connection | None = None
        self._urls: dict[str, httpx.URL] = {}
        self._repeated: tuple[httpx.Request, bytes] | None = None

    def build_request(self, method: str, url: Any, **given: Any) -> httpx.Request:
        """A request as it was given: the SDKs give whole addresses and all headers, so there is nothing to merge."""
        if not isinstance(url, str) or any(given.get(name) for name in ("params", "cookies", "data", "files", "json")):
            return super().build_request(method, url, **given)
        if url not in self._urls:
            self._urls = {url: httpx.URL(url)}  # parsed once: a client is asked for one address all the time
        return httpx.Request(method, self._urls[url], headers=given.get("headers"), content=given.get("content"))

    def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """One exchange. What the arguments may ask for beside it (redirects, authentication, streaming) is not done.

        Raises:
            httpx.TimeoutException: not complete in time, however steadily it dripped.
            Refused: its certificate is not trusted, or its answer is too large or compressed.
            httpx.ConnectError: there is no connection, and nothing was sent.
            httpx.NetworkError: the connection broke.
        """
        answered, body = self._exchange(request, _head(request), request.read())
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answered.headers.items()]
        return httpx.Response(answered.status, headers=headers, content=body, request=request)

    def repeat(self, request: httpx.Request, content: bytes) -> Received:
        if self._repeated is None or self._repeated[0] is not request:
            self._repeated = (request, _head(request))
        answered, body = self._exchange(request, self._repeated[1], content)
        headers = {name.lower(): value for name, value in answered.headers.items()}
        # As httpx reads it; JSON is UTF-8, whatever else a server says.
        return Received(answered.status, headers, body.decode("utf-8", errors="replace"))

    def _exchange(self, request: httpx.Request, head: bytes, content: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        deadline = time.monotonic() + self._timeout_s
        try:
            if self._connection is None or not self._connection.usable_for(request.url):
                self._drop()
                self._connection = _connect(request.url, self._tls, deadline)
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
        if answered.will_close:
            self._drop()
        return answered, body

    def close(self) -> None:
        self._drop()
        super().close()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _head(request: httpx.Request) -> bytes:
    """Request line and headers, but for the length of the body."""
    lines = [request.method.encode() + b" " + request.url.raw_path + b" HTTP/1.1"]
    for name, value in request.headers.raw:
        if b"\r" in name + value or b"\n" in name + value:
            raise Refused(f"header {name.decode('latin-1')} of the request holds a line break")
        if name.lower() != b"content-length":
            lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b""])


def _connect(url: httpx.URL, tls: ssl.SSLContext, deadline: float) -> _Connection:
    try:
        return _Connection(url, tls, deadline)
    except ssl.SSLCertVerificationError as exc:
        raise Refused(
            f"its TLS certificate is not trusted ({exc.verify_message.rstrip('.')}); "
            "name a bundle that holds its authority in SSL_CERT_FILE"
        ) from exc
    except OSError as exc:  # a timeout as well: nothing was sent, so nothing can have been charged
        raise httpx.ConnectError(f"{type(exc).__name__}: {exc}") from exc


class _Connection:
    """One connection to one origin, kept open between exchanges."""

    def __init__(self, url: httpx.URL, tls: ssl.SSLContext, deadline: float) -> None:
        self._origin = (url.scheme, url.host, url.port)
        port = url.port or (443 if url.scheme == "https" else 80)
        self._socket = socket.create_connection((url.host, port), min(CONNECT_TIMEOUT_S, _seconds_to(deadline)))
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if url.scheme == "https":
                self._socket.settimeout(_seconds_to(deadline))
                self._socket = tls.wrap_socket(self._socket, server_hostname=url.host)
            else:
                self._socket.settimeout(None)
        except BaseException:
            self._socket.close()
            raise
        # Not `select`: it cannot watch file descriptors above 1,023.
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._used = time.monotonic()

    def usable_for(self, url: httpx.URL) -> bool:
        """Whether it leads there and is still open: on an idle connection there is nothing to read but its end."""
        if self._origin != (url.scheme, url.host, url.port):
            return False
        return time.monotonic() - self._used < SURELY_OPEN_S or not self._readable.poll(0)

    def exchange(
        self, method: str, sent: bytes, deadline: float, max_bytes: int
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self._used = time.monotonic()
        _wait_at_most(self._socket, _seconds_to(deadline))
        self._socket.sendall(sent)
        answered = http.client.HTTPResponse(_Incoming(self._socket, deadline, max_bytes), method=method)  # type: ignore[arg-type]
        answered.begin()
        encoding = answered.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            # Unpacking is where a small answer can become a large one.
            raise Refused(f"the answer is compressed ({encoding}), though that was not asked for")
        if answered.length is not None and answered.length <= max_bytes:
            return answered, answered.read()
        body = b"" if answered.length is not None else answered.read(max_bytes + 1)
        if answered.length is not None or len(body) > max_bytes:
            raise Refused(_too_large(max_bytes))
        return answered, body

    def close(self) -> None:
        self._socket.close()


class _Incoming(io.RawIOBase):
    """What a server sends, for the parser to read: not longer than allowed, and not more than allowed."""

    def __init__(self, connection: socket.socket, deadline: float, max_bytes: int) -> None:
        self._connection = connection
        self._deadline = deadline
        self._left = max_bytes + MAX_HEAD_BYTES
        self._max_bytes = max_bytes

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, 65_536)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # The system limits the wait for each piece; a server that drips would be waited for without end.
        _wait_at_most(self._connection, _seconds_to(self._deadline))
        try:
            received = self._connection.recv_into(buffer)
        except BlockingIOError:  # how a blocking socket says that SO_RCVTIMEO is over
            raise TimeoutError from None
        self._left -= received
        if self._left < 0:
            raise Refused(_too_large(self._max_bytes))
        return received


class _PooledClient(GuardedClient):
    """httpx as it is, for its proxies, with the same bounds."""

    def __init__(self, timeout_s: float, max_response_bytes: int, tls: ssl.SSLContext) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_response_bytes
        super().__init__(
            verify=tls,
            follow_redirects=False,
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            event_hooks={"response": [self._bound]},
        )

    def _bound(self, response: httpx.Response) -> None:
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise Refused(f"the answer is compressed ({encoding}), though that was not asked for")
        # The stream of a response that has not been read yet is where httpx takes its bytes from.
        response.stream = _BoundedStream(response.stream, self._max_bytes, self._timeout_s)


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, inner: Any, max_bytes: int, timeout_s: float) -> None:
        self._inner = inner
        self._max_bytes = max_bytes
        self._deadline = time.monotonic() + timeout_s

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        for chunk in self._inner:
            received += len(chunk)
            if received > self._max_bytes:
                raise Refused(_too_large(self._max_bytes))
            if time.monotonic() > self._deadline:
                raise httpx.ReadTimeout("no complete answer in time")
            yield chunk

    def close(self) -> None:
        self._inner.close()


def _wait_at_most(connection: socket.socket, seconds: float) -> None:
    """A time limit for the next read or write. For a plain socket the system's own: Python's costs a system call more
    for each, and with many threads each is a chance to lose the interpreter to another."""
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(seconds)
    else:
        interval = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6) or 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)


def _seconds_to(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _too_large(max_bytes: int) -> str:
    return f"the answer is larger than {max_bytes:,} bytes"
