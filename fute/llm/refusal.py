"""Telling from an answer's words that a model declined to answer."""

from __future__ import annotations

import re

_SORRY = (
    r"(?:i(?:['’]m| am) (?:very |really |so )?(?:sorry|afraid)|sorry"
    r"|i (?:do )?apologi[sz]e|my apologies|unfortunately)"
)
_UNABLE = (
    r"(?:i(?:['’]m| am) (?:not able|unable|not allowed|not permitted|not comfortable|not going)\b"
    r"|i (?:can(?:no|['’])t|can not|cannot|won['’]t|will not|must decline|decline|refuse)\b)"
)
# Not every "I can't": people write so about films too ("I can't help but love it").
_HELP = (
    r"(?:help(?: you)?(?: with\b|[.!]|$)|assist\b|comply\b|provide\b|engage (?:in|with)\b|fulfill? (?:this|that|your)\b"
    r"|(?:answer|do|process|discuss|analy[sz]e|rate|judge|generate|create|write) (?:this|that|such)\b)"
)
_FLAGGED = r"this (?:request|content|prompt) (?:violates|goes against|was flagged)"
_REFUSAL = re.compile(
    r"as an ai\b|as a (?:large )?language model\b"
    rf"|{_SORRY}[^.!?\n]{{0,40}}?{_UNABLE}|{_UNABLE}[^.!?\n]{{0,30}}?{_HELP}|{_FLAGGED}",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """Whether a text begins as refusals do: an apology with an inability, "I can't help with", "As an AI".

    Only the beginning counts: a text that is quoted or summarised may speak of such things later on.
    """
    return _REFUSAL.match(text.strip().lstrip("\"'*_ ")) is not None
