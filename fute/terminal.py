"""Text from outside, made safe to show: what a terminal would obey stands there as the characters that it is."""

from __future__ import annotations

import re

# Control characters but for tabs and line breaks, what turns the direction of writing, other line breaks, and halves of
# surrogate pairs, which cannot be written at all.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(value: object) -> str:
    r"""A value as text for a terminal: an escape character in it is shown as \x1b."""
    return _OBEYED.sub(_as_escape, str(value))


def _as_escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
