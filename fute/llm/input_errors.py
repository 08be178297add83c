"""Error answers that are about the one input: too long, or stopped by a filter. The others may well be answered."""

from __future__ import annotations

import re

from fute.llm.types import FILTERED, TOO_LONG, UNPROCESSABLE

_FILTER_CODES = frozenset(
    {
        "content_filter", "content_policy_violation", "content_moderation", "moderation", "moderation_blocked",
        "responsibleaipolicyviolation", "data_inspection_failed", "datainspectionfailed", "prompt_blocked",
        "input_moderation", "sensitive_content", "safety",
    }
)  # fmt: skip
_LENGTH_CODES = frozenset(
    {
        "context_length_exceeded",
        "string_above_max_length",
        "request_too_large",
        "prompt_too_long",
        "tokens_limit_reached",
    }
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
    """The finish reason of an input that a server turned away for what it is; None where it is not about the input.

    Args:
        code, message: as the error's body has them.
    """
    said = (code or "").lower()
    if said in _FILTER_CODES and status in (400, 403, 422):
        return FILTERED
    if status in (400, 403) and _FILTER_WORDS.search(message):
        return FILTERED
    if status == 413 or (status in (400, 422) and (said in _LENGTH_CODES or _LENGTH_WORDS.search(message))):
        return TOO_LONG
    return UNPROCESSABLE if status == 422 else None
