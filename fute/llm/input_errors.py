"""Error answers that say themselves that they are about the one input: too long, or stopped by a filter.

Codes and types of errors are judged by what they are made of, and the words of a message only where they are plain.
What is not recognised is no matter: an input that fails among others that are answered is counted as failed.
"""

from __future__ import annotations

import re

from fute.llm.types import FILTERED, TOO_LONG

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


def fault_of_input(status: int, code: str | None, message: str) -> str | None:
    """The finish reason of an input that a server turned away for what it is; None where it does not say so.

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
