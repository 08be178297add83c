"""Keys and passwords where settings stand, which are stored with every run and shown to everyone."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

_NAME = re.compile(
    r"(?:api|access|secret|private|auth|account|subscription)[-_ ]?(?:key|token)s?$"
    r"|passw(?:or)?d|passphrase|secret|credential|authori[sz]ation|^(?:auth|cookie|bearer|jwt)$"
    # Tokens of a vocabulary are none: eos_token and its kin.
    r"|(?:^|[-_ ])(?:pwd|pw|(?<!(?:eos|bos|pad|unk|sep|cls|end)_)(?<!(?:mask|stop)_)(?<!start_)token)$",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(?:bearer|basic|token) \S{6,}", re.IGNORECASE)
_PREFIXED = re.compile(
    r"\b(?:(?<!//)[sr]k-[\w-]{8}|xox[bap]-\S{8}|(?:hf|gh[pousr])_[A-Za-z0-9]{16}|AKIA[A-Z0-9]{12})"
)  # a host may well begin with sk-
_USER_AND_PASSWORD = re.compile(r"://[^\s/?#@:]*:(?!\d+[/?#])[^\s@]+@")  # not a port, as in ://host:8000/@me
_QUERY = re.compile(r"[?&;]([\w.-]+)=[^\s&;]")
_QUERY_NAME = re.compile(r"key|sig|signature", re.IGNORECASE)  # in a query only: elsewhere a key is often a column
_CONNECTION = re.compile(r"(?:^|\s)(?:password|passwd|pwd)=\S", re.IGNORECASE)
_RUN = re.compile(r"[A-Za-z0-9]{16,}")
_CHANGE = re.compile(r"(?<=\d)[A-Za-z]|(?<=[A-Za-z])\d")
_CHANGES = 3  # between letters and digits: words, dates and names of models have one or two
_LONGEST_KEY = 1000
_PUBLIC_NAME = re.compile(r"revision|commit|sha\d*$|digest|hash|fingerprint|version|(?:^|_)id$", re.IGNORECASE)
"""What such a run of letters and digits is no secret of."""


def secret_in(settings: Any) -> str | None:
    """Where in nested settings something looks like a key or a password (never what); None where nothing does."""
    pending: list[tuple[str, str, Any]] = [("", "", settings)]
    seen: set[int] = set()  # an object may stand in itself, or in many places
    while pending:
        place, name, value = pending.pop()
        if isinstance(value, str) and _is_secret(name, value.strip()):
            return place
        if not isinstance(value, dict | list | tuple) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            pending += [(f"{place}.{key}" if place else str(key), str(key), inner) for key, inner in value.items()]
        else:
            pending += [(f"{place}[{i}]", name, inner) for i, inner in enumerate(value)]
    return None


def _is_secret(name: str, value: str) -> bool:
    if _NAME.search(name) and value:
        return True
    if _HEADER.fullmatch(value) or address_with_secret(value):
        return True
    # A text that happens to hold such a run (a template, a grammar) is none.
    if len(value) > _LONGEST_KEY or re.search(r"\s", value) or _PUBLIC_NAME.search(name):
        return False
    return any(len(_CHANGE.findall(run)) >= _CHANGES for run in _RUN.findall(value))


def address_with_secret(value: str) -> bool:
    """Whether an address holds a key or a password for certain; letters and digits alone may be its host's name."""
    plain = unquote(value)
    if any(known.search(plain) for known in (_PREFIXED, _USER_AND_PASSWORD, _CONNECTION)):
        return True
    return any(_NAME.search(name) or _QUERY_NAME.fullmatch(name) for name in _QUERY.findall(plain))
