"""The nearest known name to a mistyped one, for error messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`; did you mean 'label'?`, or nothing where no known name is near."""
    names = list(known)
    lowered = {name.lower(): name for name in reversed(names)}
    close = get_close_matches(str(word).lower(), list(lowered), n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]!r}?" if close else ""


def listed(names: Iterable[str], at_most: int = 12) -> str:
    """Names separated by commas, the end of a long list counted instead of printed."""
    shown = list(names)
    more = len(shown) - at_most
    return ", ".join(shown[:at_most]) + (f" and {more} more" if more > 0 else "") if shown else "(none)"
