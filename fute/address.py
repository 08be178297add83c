"""What an address alone says: whether it can be one, whether it is this machine, and what secret it holds or risks."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
WITH_A_NAME = ("abfs", "abfss", "hdfs", "sftp", "smb", "ssh", "webhdfs")
"""Schemes whose addresses have an @ by design: container@account, user@host."""


def is_url(address: str) -> bool:
    """Whether an address begins with a scheme, and so is no folder (which is written ./name: where its name does)."""
    return _SCHEME.match(address) is not None


def decoded(address: str) -> str:
    """An address with every %40 and its like written out, however often they were written over."""
    while (plain := unquote(address)) != address:  # it gets shorter each time
        address = plain
    return address


def has_room_for_a_secret(address: str) -> bool:
    """Whether a URL has room for a key or password, in whatever spelling: before an @, in a query, in a second URL."""
    plain = decoded(address)
    scheme, _, rest = plain.partition(":")
    host, _, path = rest.lstrip("/").partition("/")
    if "@" in host and (scheme.lower() not in WITH_A_NAME or ":" in host.rpartition("@")[0]):
        return True
    # An @ behind the host is part of a name, unless a key with a slash in it stands before it.
    if "@" in path and ":" in host + path.rpartition("@")[0]:
        return True
    return "::" in plain or bool(re.search(r"[?#]", plain))


def store_fault(address: str) -> str | None:
    """Why a URL cannot be a store's, without repeating it; None where it can."""
    if has_room_for_a_secret(address):
        return (
            "it has a key or password in it, or room for one (before an @, in a query, in a second URL), which would "
            "stand in logs and file names; give the bucket alone, and keys in the environment (for S3 "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        )
    if not re.match(r"[a-z][a-z0-9+.-]+://", address):
        return "write a URL in small letters, as s3://bucket/prefix, and a folder with a colon in its name as ./name"
    return None


def address_problem(base_url: str) -> str | None:
    """Why no request can go there, without quoting it; None for an address that can be tried."""
    try:
        url = urlsplit(base_url)
        host, port = url.hostname or "", url.port
        if url.scheme not in ("http", "https"):
            return "an address begins with http:// or https://"
        if not host or port == 0:
            return "it names no host" if not host else "port 0 is none to connect to"
        # What the resolver does first, and where it would raise in the middle of a run.
        ip_address(host) if "[" in url.netloc else host.encode("idna")
    except ValueError as exc:  # UnicodeError is one
        return str(exc)
    return None


def is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def sent_in_the_clear(base_url: str) -> str | None:
    """Why no key is sent there, and what to do; None where one may be."""
    if urlsplit(base_url).scheme != "http" or is_loopback(base_url):
        return None
    return (
        f"the API key would be sent to {base_url} over plain http, where everyone on the way can read it; "
        "use https, or no key"
    )
