"""The HTTP client below the SDKs: certificates, connections that went stale, bounds on what comes back."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fute.errors import ModelError
from fute.llm.exchange import Refused, behind_proxy, guarded_client
from fute.llm.failures import TransientError
from fute.llm.transport import Transport
from fute.llm.types import ChatRequest, Message

BODY = b'{"choices": [{"message": {"content": "good"}}]}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
ASK = ChatRequest("service", "http://nowhere", "m", (Message("user", "good"),))


@contextmanager
def serving(handle: Callable[[socket.socket, int], None], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A port on loopback; `handle` gets each connection and its number, one after the other."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        number = 0
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                wrapped = tls.wrap_socket(connection, server_side=True) if tls else connection
                with wrapped:
                    handle(wrapped, number)
            except OSError:
                connection.close()  # the client went away
            number += 1

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def answer_once(connection: socket.socket, reply: bytes) -> None:
    received = b""
    while b'"messages"' not in received and b"\r\n\r\n" not in received:
        received += connection.recv(65_536)
    connection.sendall(reply)


def always(reply: bytes) -> Callable[[socket.socket, int], None]:
    return lambda connection, number: answer_once(connection, reply)


def transport(port: int, scheme: str = "http", **options) -> Transport:
    return Transport(f"{scheme}://127.0.0.1:{port}/v1", **{"timeout_s": 10.0, **options})


# --------------------------------------------------------------------------------------------------------- certificates


def certificate(folder: Path, name: x509.GeneralName) -> Path:
    """A self-signed certificate with its key, as one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def server_side(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(tmp_path):
    pem = certificate(tmp_path, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    with (
        serving(always(OK), server_side(pem)) as port,
        pytest.raises(ModelError, match="certificate is not trusted.*SSL_CERT_FILE") as caught,
    ):
        transport(port, "https", api_key="sk-canary-0123456789").complete(ASK)
    assert not isinstance(caught.value, TransientError)


def test_a_bundle_of_ones_own_is_trusted_but_not_for_another_host(tmp_path, monkeypatch):
    mine = certificate(tmp_path, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    monkeypatch.setenv("SSL_CERT_FILE", str(mine))
    with serving(always(OK), server_side(mine)) as port:
        assert transport(port, "https").complete(ASK).text == "good"
    (tmp_path / "other").mkdir()
    other = certificate(tmp_path / "other", x509.DNSName("elsewhere.example"))
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    with serving(always(OK), server_side(other)) as port, pytest.raises(ModelError, match="not trusted"):
        transport(port, "https").complete(ASK)


# ---------------------------------------------------------------------------------------------------------- connections


def test_a_connection_is_used_again_and_one_that_the_server_closed_is_replaced(monkeypatch):
    monkeypatch.setattr("fute.llm.exchange.SURELY_OPEN_S", 0.0)
    numbers = []
    closed = threading.Event()

    def twice_then_close(connection: socket.socket, number: int) -> None:
        for _ in range(2):
            numbers.append(number)
            answer_once(connection, OK)
        connection.close()
        closed.set()

    with serving(twice_then_close) as port:
        client = transport(port)
        for _ in range(2):
            assert client.complete(ASK).text == "good"
        assert closed.wait(10)
        time.sleep(0.05)  # until the end has arrived on this side of the loopback
        assert client.complete(ASK).text == "good"
    assert numbers[:3] == [0, 0, 1]


def test_a_server_that_ends_the_connection_with_each_answer_is_obeyed():
    reply = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    with serving(always(reply)) as port:
        client = transport(port)
        assert [client.complete(ASK).text for _ in range(3)] == ["good"] * 3


def test_chunks_and_a_body_without_a_length_are_read_whole():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    for reply in (chunked, b"HTTP/1.1 200 OK\r\n\r\n" + BODY):
        with serving(always(reply)) as port:
            assert transport(port).complete(ASK).text == "good"


# --------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n",  # said
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 60_000,  # not said
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n%s\r\n" % (b" " * 1024) * 60,
    ],
)
def test_an_answer_that_is_too_large_is_refused_however_it_is_sent(reply):
    with serving(always(reply)) as port, pytest.raises(ModelError, match="larger than 20,000 bytes") as caught:
        transport(port, max_response_bytes=20_000).complete(ASK)
    assert not isinstance(caught.value, TransientError)


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200, b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000, b"SSH-2.0-x\r\n"]
)
def test_a_head_without_end_or_no_http_at_all_is_a_failed_connection_and_not_a_hang(reply):
    with serving(always(reply)) as port, pytest.raises(ModelError, match="connection failed|larger than"):
        transport(port).complete(ASK)


def test_a_half_answer_is_transient():
    with serving(always(OK[:-5])) as port, pytest.raises(TransientError, match="IncompleteRead"):
        transport(port).complete(ASK)


def test_a_line_break_in_a_header_is_not_sent():
    with serving(always(OK)) as port, guarded_client("http://x", timeout_s=5) as client:
        request = httpx.Request("GET", f"http://127.0.0.1:{port}", headers={"X-Odd": "a\r\nInjected: b"})
        with pytest.raises(Refused, match="line break"):
            client.send(request)


# -------------------------------------------------------------------------------------------------------------- proxies


def test_a_proxy_of_the_environment_is_used_but_never_for_loopback(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert not behind_proxy("http://api.example/v1")
    seen = []

    def proxy(connection: socket.socket, number: int) -> None:
        seen.append(connection.recv(65_536).split(b"\r\n")[0])
        connection.sendall(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))

    with serving(proxy) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        assert behind_proxy("http://api.example/v1")
        assert not behind_proxy("http://127.0.0.1:1/v1")
        assert not behind_proxy("https://api.example/v1")
        assert Transport("http://api.example/v1", timeout_s=10).complete(ASK).text == "good"
        with pytest.raises(ModelError, match="larger than 20 bytes"):
            Transport("http://api.example/v1", timeout_s=10, max_response_bytes=20).complete(ASK)
    assert seen == [b"POST http://api.example/v1/chat/completions HTTP/1.1"] * 2
