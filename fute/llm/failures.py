"""A failed exchange with an endpoint as an error of ours: what may pass by itself, what will not, and no secret in it.

Nothing here is raised `from` the SDK's exception: that one carries the request with its Authorization header and the
server's words, which may repeat it, and a printed traceback would show both.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from fute.errors import ConfigError, ModelError

TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
EXCERPT = 300  # characters of a server's message that are worth showing


class TransientError(ModelError):
    """May pass by itself, so it is worth another attempt.

    Attributes:
        retry_after_s: seconds that the server asked to wait; None where it said nothing.
        may_be_charged: the request may have been answered, and so charged: no status came back that surely says
            otherwise (a 4xx beside 408, or 503 with Retry-After).
    """

    def __init__(self, message: str, retry_after_s: float | None = None, *, may_be_charged: bool = True) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.may_be_charged = may_be_charged


class UnusableAnswer(ModelError):
    """An answer with a good status that cannot be taken, now or later. The model may have worked for it."""

    may_be_charged = True


class Secret:
    """An API key that does not show itself, and takes itself out of what a server said."""

    def __init__(self, api_key: str | None) -> None:
        key = (api_key or "").strip()
        # Such a key cannot go into a header, and the library that says so quotes it.
        if not all("!" <= character <= "~" for character in key):
            raise ConfigError("the API key holds a blank, a line break or a character outside ASCII; set it again")
        self._key = key

    def __repr__(self) -> str:
        return "Secret(set)" if self._key else "Secret(none)"

    def __bool__(self) -> bool:
        return bool(self._key)

    def reveal(self) -> str:
        return self._key

    def remove_from(self, text: str) -> str:
        """The text without the key, but for "keys" below 8 characters."""
        # Those are the dummies that local servers want ("none", "EMPTY"), and words of answers as well.
        return text.replace(self._key, "[API key]") if self.is_in(text) else text

    def is_in(self, text: str) -> bool:
        return len(self._key) >= 8 and self._key in text


def retry_after_s(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a server asks to wait: Retry-After as a number or as a date (RFC 9110, 10.2.3).

    Args:
        headers: lower-case names. A date is read against the server's own Date, where it gave one.
        now: seconds since 1970, where it did not.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until = _timestamp(value)
        if until is None:
            return None
        since = _timestamp(headers.get("date", ""))
        seconds = until - (since if since is not None else time.time() if now is None else now)
    return max(0.0, seconds) if seconds == seconds else None


def from_status(where: str, status: int, headers: Mapping[str, str], said: Any, has_key: bool) -> ModelError:
    """The error for an answer with a status of 300 or more; `said`, its body, is free of the key already."""
    code, message = error_of(said)
    if status in (401, 403):
        # Its words are left out: such answers like to repeat (parts of) the key.
        given = "was refused" if has_key else "is missing"
        return ModelError(
            f"{where}: HTTP {status}: the API key {given}; set the environment variable that api_key_env names"
        )
    if 300 <= status < 400:
        return ModelError(f"{where}: HTTP {status}: it redirects elsewhere, which is not followed; correct base_url")
    says = f"{where}: HTTP {status}{f' ({code})' if code else ''}{f': {message}' if message else ''}"
    # Sent with status 429, but no waiting fills an account.
    if code != "insufficient_quota" and (status in TRANSIENT_STATUS or status >= 500):
        wait_s = retry_after_s(headers)
        return TransientError(says, wait_s, may_be_charged=not _surely_free(status, wait_s))
    if status == 404:
        says += "; check base_url (it mostly ends in /v1) and the model's name"
    return ModelError(says)


def _surely_free(status: int, wait_s: float | None) -> bool:
    """Whether the status says that no model has worked on the request. A gateway gives 408, 500, 502 and 504 also when
    the model behind it had begun, or had answered."""
    return (status == 503 and wait_s is not None) or (400 <= status < 500 and status != 408)


def error_of(said: Any) -> tuple[str | None, str]:
    """Code and message of an error body, as OpenAI-compatible servers write it; else the beginning of the body.

    Args:
        said: the body as JSON, or the text that it was instead.
    """
    error = said
    if isinstance(error, dict) and "error" in error:
        error = error["error"]
    if not isinstance(error, dict):
        return None, _excerpt(str(error))
    code = error.get("code") or error.get("type")
    return (str(code)[:60] if code else None), _excerpt(str(error.get("message") or ""))


def _excerpt(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}..."


def _timestamp(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None
