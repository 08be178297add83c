"""What an address alone says: whether it is this machine, and whether a key sent there could be read on the way."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


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
