"""How long a server asks its clients to wait before they retry: in headers or in the body, in whatever unit."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from math import isfinite
from typing import Any

from fute.llm.server_words import error_of

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(
    r"(\d+(?:\.\d+)?)\s*(ms|milli[a-z]*|s|sec[a-z]*|m|min[a-z]*|h|hours?|d|days?)(?![a-z])", re.IGNORECASE
)
_IN_WORDS = re.compile(rf"\b(?:again|retry|wait)\D{{0,30}}((?:{_PART.pattern}\s?)+)", re.IGNORECASE)
_EPOCH_S = 1e9  # a larger number of seconds is a moment and no duration


def wait_asked_s(status: int, headers: Mapping[str, str], said: Any, now: float | None = None) -> float | None:
    """Seconds the server asks to wait; None if it says nothing.

    Args:
        headers: lower-case names.
        said: the body as JSON, or the text that it was instead.
        now: seconds since 1970, to read dates against where the server sent no Date.
    """
    now = _moment(headers.get("date", "")) or (time.time() if now is None else now)
    for value, unit in ((headers.get("retry-after-ms"), "ms"), (headers.get("retry-after"), "s")):
        if value and (wait_s := seconds_in(value, now, unit)) is not None:
            return wait_s
    for name, value in _named_waits(said):
        if (wait_s := seconds_in(value, now, "ms" if name.endswith(("ms", "milliseconds")) else "s")) is not None:
            return wait_s
    if status == 429:
        if (resets := _resets(headers, now)) is not None:
            return resets
        if (found := _IN_WORDS.search(error_of(said)[1])) is not None:
            return seconds_in(found[1], now)
    return None


def seconds_in(value: Any, now: float, unit: str = "s") -> float | None:
    """Seconds, never below zero: a number, "34s", "1m2.5s", or a moment (a date, or seconds or milliseconds since
    1970)."""
    text = str(value).strip()[:100]
    try:
        number = float(text)
    except ValueError:
        parts = _PART.findall(text)
        if parts and not _PART.sub("", text).strip(" ,"):
            return sum(float(amount) * _SECONDS[_unit(name)] for amount, name in parts)
        moment = _moment(text)
        return None if moment is None else max(0.0, moment - now)
    if not isfinite(number):
        return None
    if number > _EPOCH_S:
        return max(0.0, (number / 1000 if number > 1000 * _EPOCH_S else number) - now)
    return max(0.0, number * _SECONDS[unit])


def _resets(headers: Mapping[str, str], now: float) -> float | None:
    """Read x-ratelimit-reset-tokens and the like: the longest of the exhausted limits, or of all if none says it is."""
    waits = []
    for name in headers:
        if "ratelimit" in name and "reset" in name and (wait_s := seconds_in(headers[name], now)) is not None:
            waits.append((headers.get(name.replace("reset", "remaining"), "").strip() == "0", wait_s))
    return max(waits)[1] if waits else None


def _named_waits(said: Any, depth: int = 5) -> Iterator[tuple[str, Any]]:
    """Find retryDelay, retry_after and the like anywhere in a body."""
    if isinstance(said, dict) and depth:
        for key, value in islice(said.items(), 12):
            name = re.sub(r"[^a-z]", "", key.lower())
            if name.startswith(("retrydelay", "retryafter", "retryin")) and isinstance(value, str | int | float):
                yield name, value
            else:
                yield from _named_waits(value, depth - 1)
    elif isinstance(said, list) and depth:
        for item in said[:5]:
            yield from _named_waits(item, depth - 1)


def _unit(name: str) -> str:
    return "ms" if name.lower().startswith(("ms", "milli")) else name[0].lower()


def _moment(text: str) -> float | None:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(text[:100])
        except (IndexError, OverflowError, TypeError, ValueError):
            continue
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None
