"""One HTTP call on httpx: no retries, no redirects, no cookies, TLS verified, size and time bounded.

httpx's transport and not its client, which would act on cookies and redirects, read more of the environment, and log
every request. `http_answer` says what a response means.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from fute.address import address_problem, is_loopback, sent_in_the_clear
from fute.config import EndpointConfig
from fute.errors import ConfigError, ModelError
from fute.llm.failures import InputFailed, Secret, TransientError, UnusableAnswer
from fute.llm.http_answer import http_answer
from fute.llm.types import Answer, ChatRequest, Completer
from fute.llm.wire import CHAT_WIRE, Wire

# Below that it writes down all headers of an answer, in which a server may repeat the key.
logging.getLogger("httpcore").setLevel(logging.INFO)

MAX_RESPONSE_BYTES = 4_000_000  # a chat answer with 20 log-probabilities a token is a few kilobytes
CONNECT_TIMEOUT_S = 10.0
HEADERS = {
    "Accept": "application/json",
    # Unpacking is where a small answer can become a large one.
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": "fute",
}


def connect(endpoint: EndpointConfig, api_key: str | None) -> Completer:
    """The OpenAI chat protocol, which hosted vendors, vLLM, Ollama, llama.cpp, TGI and LM Studio speak."""
    return Transport(endpoint.base_url, api_key=api_key, timeout_s=endpoint.timeout_s)


class Transport:
    """The innermost layer.

    Args:
        api_key: sent in one header; None: no such header. Held in memory only, never shown.
        timeout_s: for the whole exchange, looked at between the pieces of an answer; so is each wait by itself.
        wire: the protocol that is spoken.

    Raises:
        ConfigError: this is no address, the key would go over plain http to another machine, or it cannot stand in a
            header.
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
        self._secret = Secret(api_key)
        if (problem := address_problem(base_url)) is not None:
            raise ConfigError(f"base_url is no address of an API: {problem}; write it like https://api.openai.com/v1")
        if self._secret and (problem := sent_in_the_clear(base_url)) is not None:
            raise ConfigError(problem)
        self._wire = wire
        self._url = base_url.rstrip("/") + wire.path
        self._where = base_url.partition("?")[0]
        self._timeout_s = timeout_s
        self._max_bytes = max_response_bytes
        self._proxy = proxy_for(base_url)
        # As many lines as requests were ever in flight at once, each with one connection: a pool that all threads share
        # walks over all its connections, under a lock, for each request.
        self._idle: deque[httpx.HTTPTransport] = deque()
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    def complete(self, request: ChatRequest) -> Answer:
        """Ask once.

        Raises:
            TransientError: worth another attempt.
            InputFailed: turned away, and it may be for what was asked.
            ModelError: not worth another attempt.
        """
        where = f"{self._where} ({request.model})"
        content = _as_json(where, self._wire.body(request))
        started = time.perf_counter()
        status, headers, body = self._exchange(where, content)
        latency_ms = (time.perf_counter() - started) * 1000
        return http_answer(
            self._wire, where, request, status, headers, body, latency_ms=latency_ms, secret=self._secret
        )

    def _exchange(self, where: str, content: bytes) -> tuple[int, Mapping[str, str], str]:
        try:
            line = self._idle.pop()  # the last one used: its connection is the least likely to have been closed
        except IndexError:
            line = self._new_line(where)
        try:
            received = self._send(where, line, content)
            if _holds_more(line):
                line.close()
            return received
        except ModelError:
            raise
        except Exception as exc:
            failure = self._failure(where, exc)
        finally:
            self._idle.append(line)
        # Outside of the except clause: the library's exception, which holds the key's header, must not hang on ours.
        raise failure

    def _send(self, where: str, line: httpx.HTTPTransport, content: bytes) -> tuple[int, Mapping[str, str], str]:
        deadline = time.monotonic() + self._timeout_s
        headers = {**HEADERS, **self._wire.headers}
        if self._secret:
            headers[self._wire.key_header] = self._wire.before_key + self._secret.reveal()
        waits = httpx.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s)).as_dict()
        request = httpx.Request("POST", self._url, headers=headers, content=content, extensions={"timeout": waits})
        response = line.handle_request(request)
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise UnusableAnswer(f"{where}: the answer is compressed, though that was not asked for")
            body = bytearray()
            for piece in response.iter_raw():
                body += piece
                if len(body) > self._max_bytes:
                    says = f"{where}: the answer is larger than {self._max_bytes:,} bytes"
                    raise InputFailed(says, may_be_charged=True)
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer is not complete")
            # JSON says by its first bytes which UTF it is, whatever a header says.
            text = bytes(body).decode(json.detect_encoding(body), errors="replace")
            return response.status_code, response.headers, text
        finally:
            response.close()

    def _failure(self, where: str, cause: Exception) -> ModelError:
        says = self._secret.remove_from(f"{type(cause).__name__}: {cause}")  # it may quote a header of the answer
        if (untrusted := _certificate_problem(cause)) is not None:
            return ModelError(
                f"{where}: its TLS certificate is not trusted ({untrusted}); "
                "name a bundle that holds its authority in SSL_CERT_FILE"
            )
        if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            return TransientError(f"{where}: the connection failed: {says}", may_be_charged=False)
        if isinstance(cause, httpx.TimeoutException):
            return TransientError(f"{where}: no answer within {self._timeout_s:g} s")
        if isinstance(cause, httpx.TransportError):
            return TransientError(f"{where}: the connection failed: {says}")
        return ModelError(f"{where}: the request cannot be sent ({says})")

    def _new_line(self, where: str) -> httpx.HTTPTransport:
        try:
            with self._lock:  # made once, since making one reads all certificates
                self._tls = self._tls or httpx.create_ssl_context()
            return httpx.HTTPTransport(verify=self._tls, proxy=self._proxy, limits=httpx.Limits(max_connections=1))
        except Exception as exc:
            problem = type(exc).__name__  # and no more: a proxy's address may hold a password
        raise ModelError(
            f"{where}: no connection can be made with the settings of the environment ({problem}); look at "
            "SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"
        )


def proxy_for(base_url: str) -> str | None:
    """The proxy that the environment names for this address. Loopback never needs one."""
    url, proxies = urlsplit(base_url), getproxies()
    if is_loopback(base_url) or proxy_bypass(url.netloc):
        return None
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _as_json(where: str, body: dict[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (RecursionError, TypeError, ValueError) as exc:
        problem = type(exc).__name__
    raise InputFailed(f"{where}: the request cannot be written as JSON ({problem}); look at the endpoint's parameters")


def _certificate_problem(cause: BaseException | None) -> str | None:
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return str(cause.verify_message).rstrip(".")
        cause = cause.__cause__ or cause.__context__
    return None


def _holds_more(line: httpx.HTTPTransport) -> bool:
    """Whether bytes came behind an answer, which httpcore would take for the answer to the next request."""
    connections: list[Any] = list(line._pool.connections)
    while connections:
        inner = connections.pop()
        if (state := getattr(inner, "_h11_state", None)) is not None:
            return bool(state.trailing_data[0])
        connections += [inner._connection] if getattr(inner, "_connection", None) is not None else []
    return False
