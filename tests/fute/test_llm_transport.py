"""The HTTP call: certificates, connections that went stale, bounds on what comes back, what is sent."""

from __future__ import annotations

import datetime
import ipaddress
import json
import logging
import re
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from fute.config import EndpointConfig
from fute.errors import ConfigError, ModelError
from fute.llm.endpoint import open_provider
from fute.llm.failures import InputFailed, TransientError
from fute.llm.transport import Transport, proxy_for
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


def whole_request(connection: socket.socket) -> bytes:
    """However it is cut into pieces. Raises ConnectionError where the client ends before that."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if end and len(body) >= (int(length[1]) if length else 0):
            return received
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionError("the client has ended the connection")
        received += piece


def answer_once(connection: socket.socket, reply: bytes) -> None:
    whole_request(connection)
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


def settled(client: Transport) -> None:
    """Until what the server has sent or done last has arrived on this side of the loopback."""
    for connection in client._idle[-1]._pool.connections:  # one, or none if that was noticed already
        stream = connection._connection._network_stream
        assert select.select([stream.get_extra_info("socket")], [], [], 60)[0]


def test_a_connection_is_used_again_and_one_that_the_server_closed_is_replaced():
    numbers = []

    def twice_then_close(connection: socket.socket, number: int) -> None:
        for _ in range(2):
            numbers.append(number)
            answer_once(connection, OK)

    with serving(twice_then_close) as port:
        client = transport(port)
        for _ in range(2):
            assert client.complete(ASK).text == "good"
        settled(client)
        assert client.complete(ASK).text == "good"
    assert numbers[:3] == [0, 0, 1]


def test_chunks_and_a_body_without_a_length_are_read_whole():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    for reply in (chunked, b"HTTP/1.1 200 OK\r\n\r\n" + BODY):
        with serving(always(reply)) as port:
            assert transport(port).complete(ASK).text == "good"


# --------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n" + b" " * 60_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 60_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n%s\r\n" % (b" " * 1024) * 60,
    ],
)
def test_an_answer_that_is_too_large_is_refused_however_it_is_sent(reply):
    with serving(always(reply)) as port, pytest.raises(ModelError, match="larger than 20,000 bytes") as caught:
        transport(port, max_response_bytes=20_000).complete(ASK)
    assert not isinstance(caught.value, TransientError)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-x\r\n",
        b"",
    ],
)
def test_a_head_without_end_or_no_http_at_all_is_a_failed_connection_and_not_a_hang(reply):
    with serving(always(reply)) as port, pytest.raises(ModelError, match="connection failed|larger than"):
        transport(port).complete(ASK)


def test_a_half_answer_is_transient():
    with (
        serving(always(OK[:-5])) as port,
        pytest.raises(TransientError, match="connection failed: RemoteProtocolError"),
    ):
        transport(port).complete(ASK)


@pytest.mark.parametrize(
    "base_url", ["http://host:99999", "http://[::1", "http://a..b/v1", "http://:80", "http://host:0", "ftp://host", ""]
)
def test_what_is_no_address_is_refused_when_it_is_read(base_url):
    with pytest.raises(ConfigError, match="no address of an API"):
        Transport(base_url)
    if base_url:
        with pytest.raises(ValidationError, match="base_url"):
            EndpointConfig(id="e", base_url=base_url, model="m")


@pytest.mark.parametrize("timeout_s", [float("inf"), float("nan"), 1e12, 0.0, -1.0])
def test_a_time_limit_that_is_none_is_refused_when_it_is_read(timeout_s):
    with pytest.raises(ValidationError, match="timeout_s"):
        EndpointConfig(id="e", base_url="http://127.0.0.1/v1", model="m", timeout_s=timeout_s)


@pytest.mark.parametrize("timeout_s", [float("nan"), 1e30])
def test_whatever_the_library_raises_becomes_an_error_of_ours(timeout_s):
    with serving(always(OK)) as port, pytest.raises(ModelError, match="cannot be sent"):
        transport(port, timeout_s=timeout_s).complete(ASK)


def test_what_cannot_be_written_as_json_is_a_failure_of_that_input():
    with pytest.raises(InputFailed, match="cannot be written as JSON"):
        Transport("http://127.0.0.1:9/v1").complete(asked("half a \ud83d"))


# -------------------------------------------------------------------------------------------------------------- proxies


def test_a_proxy_of_the_environment_is_used_but_never_for_loopback(monkeypatch):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", CUSTOM)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_for("http://api.example/v1") is None
    seen = []

    def proxy(connection: socket.socket, number: int) -> None:
        seen.append(whole_request(connection))
        connection.sendall(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))

    with serving(proxy) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        assert proxy_for("http://api.example/v1") == f"http://127.0.0.1:{port}"
        assert proxy_for("http://127.0.0.1:1/v1") is None
        assert proxy_for("https://api.example/v1") is None
        assert Transport("http://api.example/v1", timeout_s=10).complete(ASK).text == "good"
        with pytest.raises(ModelError, match="larger than 20 bytes"):
            Transport("http://api.example/v1", timeout_s=10, max_response_bytes=20).complete(ASK)
    assert [head.split(b"\r\n")[0] for head in seen] == [b"POST http://api.example/v1/chat/completions HTTP/1.1"] * 2
    assert not any(b"another-host" in head or b"secret" in head for head in seen)


@pytest.mark.parametrize(
    ("name", "value"),
    [("HTTPS_PROXY", "nonsense://user:p4ssword@x"), ("SSL_CERT_FILE", "/nowhere/p4ssword.pem")],
)
def test_settings_of_the_environment_that_cannot_be_used_are_named_and_not_shown(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ModelError, match=f"settings of the environment.*{name}") as caught:
        Transport("https://api.example/v1").complete(ASK)
    assert "p4ssword" not in str(caught.value)


# --------------------------------------------------------------------------------------- one answer for one question


def saying(text: str) -> bytes:
    body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def echoes(behind: bytes) -> Callable[[socket.socket, int], None]:
    """Answers each question with itself, and with something behind that."""

    def handle(connection: socket.socket, number: int) -> None:
        while True:
            question = json.loads(whole_request(connection).partition(b"\r\n\r\n")[2])["messages"][0]["content"]
            connection.sendall(saying(question) + behind)

    return handle


def asked(text: str) -> ChatRequest:
    return ChatRequest("service", "http://nowhere", "m", (Message("user", text),))


def test_what_comes_behind_an_answer_is_never_taken_for_the_next_one():
    with serving(echoes(behind=saying("forged"))) as port:
        client = transport(port)
        assert [client.complete(asked(text)).text for text in ("one", "two", "three")] == ["one", "two", "three"]


def test_what_comes_on_an_idle_connection_is_never_taken_for_an_answer():
    def unasked(connection: socket.socket, number: int) -> None:
        answer_once(connection, OK)
        if number == 0:
            go.wait(60)
            connection.sendall(saying("forged"))
            done.wait(60)

    go, done = threading.Event(), threading.Event()
    with serving(unasked) as port:
        client = transport(port)
        assert client.complete(ASK).text == "good"
        go.set()
        settled(client)
        done.set()
        assert client.complete(ASK).text == "good"


@pytest.mark.parametrize("status", [b"101 Switching Protocols", b"204 No Content", b"304 Not Modified", b"500 Oops"])
def test_an_answer_without_a_body_does_not_spoil_the_next_one(status):
    numbers = []

    def handle(connection: socket.socket, number: int) -> None:
        numbers.append(number)
        answer_once(connection, b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status if number == 0 else OK)

    with serving(handle) as port:
        client = transport(port)
        with pytest.raises(ModelError):
            client.complete(ASK)
        assert client.complete(ASK).text == "good"
    assert numbers == [0, 1]


# ----------------------------------------------------------------------------------------------------- what is sent


CUSTOM = "Authorization: Bearer sk-of-another-host\nX-Api-Key: sk-of-another-host\nX-Tenant: secret\nHost: elsewhere"


@pytest.mark.parametrize("api", ["openai_chat", "openai_completions", "anthropic"])
@pytest.mark.parametrize("key", [None, "sk-canary-0123456789"])
def test_headers_of_the_environment_go_nowhere(monkeypatch, api, key):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", CUSTOM)
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", CUSTOM)
    heads = []

    def handle(connection: socket.socket, number: int) -> None:
        for _ in range(2):
            heads.append(whole_request(connection).partition(b"\r\n\r\n")[0].decode())
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with serving(handle) as port:
        endpoint = EndpointConfig(id="e", api=api, base_url=f"http://127.0.0.1:{port}/v1", model="m", timeout_s=10)
        client = open_provider(endpoint, key)
        for _ in range(2):
            with pytest.raises(TransientError):
                client.complete(ASK)
    for head in heads:
        sent = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in head.split("\r\n")[1:]}
        assert sent["host"] == f"127.0.0.1:{port}"
        assert "secret" not in head
        assert "another-host" not in head
        allowed = {"host", "accept", "accept-encoding", "content-type", "content-length", "user-agent"}
        assert set(sent) - allowed - {"anthropic-version"} == (
            set() if key is None else {"x-api-key" if api == "anthropic" else "authorization"}
        )
        if key is not None:
            assert key in head


@pytest.mark.parametrize("status", [b"200 OK", b"307 Elsewhere", b"500 Oops"])
def test_a_key_that_comes_back_in_a_header_is_in_no_log(caplog, status):
    caplog.set_level(logging.DEBUG)
    reply = b"HTTP/1.1 %s\r\nLocation: http://x/sk-canary-0123456789\r\nContent-Length: 2\r\n\r\n{}" % status
    with serving(always(reply)) as port, pytest.raises(ModelError) as caught:
        transport(port, api_key="sk-canary-0123456789").complete(ASK)
    assert "sk-canary" not in caplog.text + str(caught.value)


def test_a_key_goes_over_plain_http_to_this_machine_only():
    for base_url in ("http://api.example/v1", "http://10.0.0.7:8000/v1"):
        with pytest.raises(ConfigError, match="over plain http.*use https, or no key") as caught:
            Transport(base_url, api_key="sk-canary-0123456789")
        assert "canary" not in str(caught.value)
        Transport(base_url)
    for base_url in ("https://api.example/v1", "http://127.0.0.1:1/v1", "http://localhost/v1", "http://[::1]/v1"):
        Transport(base_url, api_key="sk-canary-0123456789")
