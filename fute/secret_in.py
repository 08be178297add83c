"""Keys and passwords where settings stand, which are stored with every run and shown to everyone."""

from __future__ import annotations

import re
from typing import Any

_NAME = re.compile(
    r"(?:api|access|secret|private|auth|account|subscription)[-_ ]?(?:key|token)s?$"
    r"|passw(?:or)?d|passphrase|secret|credential|authori[sz]ation|^(?:auth|cookie|bearer|token|jwt)$",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(?:bearer|basic|token) \S{6,}", re.IGNORECASE)
_PREFIXED = re.compile(r"\b[sr]k-\S{8}")
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
    if _HEADER.fullmatch(value):
        return True
    # A text that happens to hold such a run (a template, a grammar) is none.
    if len(value) > _LONGEST_KEY or re.search(r"\s", value) or _PUBLIC_NAME.search(name):
        return False
    return bool(_PREFIXED.search(value)) or any(len(_CHANGE.findall(run)) >= _CHANGES for run in _RUN.findall(value))
