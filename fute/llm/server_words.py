"""What a server says is wrong, in its own words, whatever shape it says it in."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any

EXCERPT = 300  # characters of a server's message that are worth showing
_READ = 4_000  # characters that are looked at for them
_DEEPEST = 5
_WIDEST = 12

_NAMES_OF_WORDS = ("message", "msg", "description", "detail", "details", "errors", "error", "reason", "title")
"""How the names of fields end that hold words, the most telling first: message, error_msg, statusMessage ..."""
_NAMES_OF_CODES = ("code", "type", "status")
_TAGS = re.compile(r"<[^<>]*>")


def error_of(said: Any) -> tuple[str | None, str]:
    """Code and message of an error body; where neither has a name that is known, the beginning of the body.

    Args:
        said: the body as JSON, or the text that it was instead.
    """
    code, words = _read(said, _DEEPEST)
    if not words and said:
        try:
            words = json.dumps(said, ensure_ascii=False)
        except RecursionError:
            words = ""
    return (excerpt(str(code), 60) if code not in (None, "") else None), excerpt(words)


def named_words(said: Any) -> str:
    """What stands under a name for words; empty where nothing does."""
    return "" if isinstance(said, str) else _read(said, _DEEPEST)[1]


def excerpt(text: str, most: int = EXCERPT) -> str:
    """The beginning of a text as one line, without the tags of a page; what a terminal would obey is written out."""
    words = " ".join(_TAGS.sub(" ", text[:_READ]).split())
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in words)
    return shown if len(shown) <= most else f"{shown[:most]}..."


def _read(said: Any, depth: int) -> tuple[Any, str]:
    if isinstance(said, str):
        return None, said
    if depth == 0 or not isinstance(said, list | dict):
        return None, ""
    if isinstance(said, list):
        parts = [_read(item, depth - 1) for item in said[:3]]
        codes = [code for code, _ in parts if code is not None]
        return (codes[0] if codes else None), "; ".join(words for _, words in parts if words)
    fields = {re.sub(r"[^a-z]", "", name.lower()): value for name, value in islice(said.items(), _WIDEST)}
    code = next((value for value in _ending(fields, _NAMES_OF_CODES) if isinstance(value, str | int)), None)
    # First what is named as words, then what other answers wrap the error in.
    for inner in [*_ending(fields, _NAMES_OF_WORDS), *(v for v in fields.values() if isinstance(v, dict | list))]:
        inner_code, words = _read(inner, depth - 1)
        if words:
            place = fields.get("loc")  # where in the request, as validators of FastAPI servers say it
            at = f"{'.'.join(str(part) for part in place[:6])}: " if isinstance(place, list) else ""
            return (code if inner_code is None else inner_code), at + words
    return code, ""


def _ending(fields: dict[str, Any], endings: tuple[str, ...]) -> list[Any]:
    return [value for ending in endings for name, value in fields.items() if name.endswith(ending)]
