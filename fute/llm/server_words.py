"""What a server says is wrong, in whatever shape; and whether that is about the one input."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any

from fute.llm.types import FILTERED, TOO_LONG

EXCERPT = 300  # characters of a server's message that are worth showing
_READ = 4_000  # characters that are looked at for them
_DEEPEST = 5
_WIDEST = 12

_NAMES_OF_WORDS = ("message", "msg", "description", "detail", "details", "errors", "error", "reason", "title")
"""How the names of fields end that hold words, the most telling first: message, error_msg, statusMessage ..."""
_NAMES_OF_CODES = ("code", "type", "status")
_TAGS = re.compile(r"<[^<>]*>")

# Codes and types of errors are judged by what they are made of, the words of a message only where they are plain. What
# is not recognised is no matter: an input that fails among others that are answered is counted as failed.
_FILTER_CODE = re.compile(
    r"filter|moderat|content_?polic|policy_?violat|safety|sensitive|inspection|prompt_?blocked", re.IGNORECASE
)
_LENGTH_CODE = re.compile(
    r"(?:context|prompt|input|string|tokens?|request|sequence).*(?:exceed|too_?l|above|limit|overflow)"
    r"|exceed.*(?:context|prompt|input|tokens?)",
    re.IGNORECASE,
)
# Of the prompt only: that max_tokens is too large is true for all inputs, and a setting to correct.
_LENGTH_WORDS = re.compile(
    r"context[ _](?:length|window|size)|maximum (?:context|input|prompt|sequence)"
    r"|max[ _](?:model|input|seq\w*|prompt)[ _]len|inputs` (?:tokens|must have less)|reduce the length"
    r"|\b(?:prompt|input|inputs|text|messages?)\b[^.]{0,60}\b(?:too (?:long|large)|exceeds?)\b"
    r"|too many (?:input )?tokens",
    re.IGNORECASE,
)
_FILTER_WORDS = re.compile(r"content (?:filter|policy|moderation|management policy)|input was flagged", re.IGNORECASE)


def error_of(said: Any) -> tuple[str | None, str]:
    """Code and message of an error body; the beginning of the body if neither has a known name.

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
    """The message under a known name; empty if there is none."""
    return "" if isinstance(said, str) else _read(said, _DEEPEST)[1]


def fault_of_input(status: int, code: str | None, message: str) -> str | None:
    """The finish reason of an input that a server rejected for what it is; None if it does not say so.

    Args:
        code, message: as the error's body has them.
    """
    if status in (400, 403, 422) and (_FILTER_CODE.search(code or "") or _FILTER_WORDS.search(message)):
        return FILTERED
    if status in (413, 414) or (status in (400, 422) and speaks_of_length(code, message)):
        return TOO_LONG
    return None


def speaks_of_length(code: str | None, message: str) -> bool:
    return bool(_LENGTH_CODE.search(code or "") or _LENGTH_WORDS.search(message))


def excerpt(text: str, most: int = EXCERPT) -> str:
    """The beginning of a text as one line, without HTML tags; control characters are escaped."""
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
