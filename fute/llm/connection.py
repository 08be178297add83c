"""One connection to one origin, kept open between exchanges; what comes over it is bounded in size and time."""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import struct
import time
from typing import Any

import httpx

MAX_HEAD_BYTES = 100_000  # what an answer's headers may take beside its body
CONNECT_TIMEOUT_S = 10.0
SWITCHING_PROTOCOLS = 101


class Refused(httpx.RequestError):
    """An answer that is not taken, now or later."""


class RefusedAnswer(Refused):
    """Refused when it had come: the request was worked on."""


def connect(url: httpx.URL, tls: ssl.SSLContext, deadline: float) -> Connection:
    """
    Args:
        deadline: on the monotonic clock, in seconds.

    Raises:
        Refused: its certificate is not trusted.
        httpx.ConnectError: there is no connection, and nothing was sent.
    """
    try:
        return Connection(url, tls, deadline)
    except ssl.SSLCertVerificationError as exc:
        raise Refused(
            f"its TLS certificate is not trusted ({exc.verify_message.rstrip('.')}); "
            "name a bundle that holds its authority in SSL_CERT_FILE"
        ) from exc
    except OSError as exc:  # a timeout as well: nothing was sent, so nothing can have been charged
        raise httpx.ConnectError(f"{type(exc).__name__}: {exc}") from exc


class Connection:
    """
    Attributes:
        reusable: the last answer came whole, and nothing is left of it that could be taken for the next one.
    """

    def __init__(self, url: httpx.URL, tls: ssl.SSLContext, deadline: float) -> None:
        self._origin = (url.scheme, url.host, url.port)
        self._socket = _opened(url.host, url.port or (443 if url.scheme == "https" else 80), deadline)
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
        self.reusable = True

    def usable_for(self, url: httpx.URL) -> bool:
        """Whether it leads there and is open and empty: what comes on an idle connection is its end, or no answer to
        what will be asked next."""
        if not self.reusable or self._origin != (url.scheme, url.host, url.port):
            return False
        pending = self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0
        return not pending and not self._readable.poll(0)

    def exchange(
        self, method: str, sent: bytes, deadline: float, max_bytes: int
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """The final answer and its body; interim ones (100 Continue, 103 Early Hints) are passed over.

        Raises:
            TimeoutError: not complete in time, however steadily it dripped.
            RefusedAnswer: too large, or compressed.
            OSError, http.client.HTTPException: the connection broke, or this is no HTTP.
        """
        self.reusable = False
        self._send(sent, deadline)
        incoming = _Incoming(self._socket, deadline, max_bytes)
        answered = http.client.HTTPResponse(incoming, method=method)  # type: ignore[arg-type]
        answered.begin()
        while 100 <= answered.status < 200 and answered.status != SWITCHING_PROTOCOLS:
            # The standard library passes over 100 only, and would take the answer for that of the next request.
            answered.headers = None  # type: ignore[assignment]  # as before the beginning
            answered.begin()
        body = _body(answered, max_bytes)
        self.reusable = not (
            answered.will_close
            or answered.status in (SWITCHING_PROTOCOLS, http.client.NO_CONTENT)
            # Whether a body follows such an answer is what servers disagree about.
            or answered.status >= 300
            or incoming.holds_more()
        )
        return answered, body

    def close(self) -> None:
        self._socket.close()

    def _send(self, content: bytes, deadline: float) -> None:
        rest = memoryview(content)
        while rest:
            _wait_at_most(self._socket, _seconds_to(deadline))
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:  # how a blocking socket says that SO_SNDTIMEO is over
                raise TimeoutError from None


def too_large(max_bytes: int) -> RefusedAnswer:
    return RefusedAnswer(f"the answer is larger than {max_bytes:,} bytes")


def compressed(encoding: str) -> RefusedAnswer:
    """Unpacking is where a small answer can become a large one."""
    return RefusedAnswer(f"the answer is compressed ({encoding}), though that was not asked for")


def _body(answered: http.client.HTTPResponse, max_bytes: int) -> bytes:
    encoding = answered.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise compressed(encoding)
    if answered.length is not None and answered.length <= max_bytes:
        return answered.read()
    body = b"" if answered.length is not None else answered.read(max_bytes + 1)
    if answered.length is not None or len(body) > max_bytes:
        raise too_large(max_bytes)
    return body


def _opened(host: str, port: int, deadline: float) -> socket.socket:
    """Connected to one of the host's addresses; together they have no more time than one of them would have alone."""
    latest = min(deadline, time.monotonic() + CONNECT_TIMEOUT_S)
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = OSError(f"{host} has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(_seconds_to(latest) / (len(addresses) - number))
            opened.connect(address)
            return opened
        except OSError as exc:
            opened.close()
            failure = exc
    raise failure


class _Incoming(io.RawIOBase):
    """What a server sends, for the parser to read: not longer than allowed, and not more than allowed."""

    def __init__(self, connection: socket.socket, deadline: float, max_bytes: int) -> None:
        self._connection = connection
        self._deadline = deadline
        self._left = max_bytes + MAX_HEAD_BYTES
        self._max_bytes = max_bytes
        self._ended = False
        self._reader = _KeptOpen(self, 65_536)

    def makefile(self, mode: str) -> io.BufferedReader:
        return self._reader

    def holds_more(self) -> bool:
        """Whether more has come than the parser has taken. Nothing more is waited for."""
        self._ended = True
        return bool(self._reader.peek(1))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._ended:
            return 0
        # The system limits the wait for each piece; a server that drips would be waited for without end.
        _wait_at_most(self._connection, _seconds_to(self._deadline))
        try:
            received = self._connection.recv_into(buffer)
        except BlockingIOError:  # how a blocking socket says that SO_RCVTIMEO is over
            raise TimeoutError from None
        self._left -= received
        if self._left < 0:
            raise too_large(self._max_bytes)
        return received


class _KeptOpen(io.BufferedReader):
    """The parser closes its file with the end of the body; what came behind it is still to be looked at."""

    def close(self) -> None:
        pass


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
