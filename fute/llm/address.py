"""What an address alone says: whether it can be one, whether it is this machine, and whether a key sent there could be
read on the way."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


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
