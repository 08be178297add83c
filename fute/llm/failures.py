"""Errors of an exchange with an endpoint, by what to do next, and the key that must not show in them.

ModelError
├── TransientError    worth another attempt
├── InputFailed       worth none, and the next input may well be answered
└── UnusableAnswer    an answer that came and cannot be taken; the next would be like it
"""

from __future__ import annotations

import re

from fute.errors import ConfigError, ModelError


class TransientError(ModelError):
    """May pass by itself, so another attempt is worth it.

    Attributes:
        retry_after_s: seconds the server asked to wait; None if it said nothing.
        may_be_charged: the request may have been answered, and so charged: no status came back that surely says
            otherwise (a 4xx beside 408, or 503 with Retry-After).
    """

    def __init__(self, message: str, retry_after_s: float | None = None, *, may_be_charged: bool = True) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.may_be_charged = may_be_charged


class InputFailed(ModelError):
    """The endpoint rejected this request, or failed at it each time. Whether the input or the endpoint is at fault
    shows in how other inputs fare, so nothing of it is kept.

    Attributes:
        too_long: the server says that it is the input's length.
        may_pass: it failed in a way that may pass by itself, only not within the attempts that were made.
    """

    def __init__(
        self, message: str, *, too_long: bool = False, may_pass: bool = False, may_be_charged: bool = False
    ) -> None:
        super().__init__(message)
        self.too_long = too_long
        self.may_pass = may_pass
        self.may_be_charged = may_be_charged


class UnusableAnswer(ModelError):
    """An answer with a good status that cannot be taken, now or later. The model may have worked for it."""

    may_be_charged = True


class Secret:
    """An API key that does not show in logs, and removes itself from what a server says."""

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

    def remove_parts_from(self, text: str) -> str:
        """The text without words that begin like the key, as servers show a key that they refuse: sk-abcde***wxyz."""
        if len(self._key) < 8:
            return text
        return re.sub(rf"{re.escape(self._key[:6])}\S*", "[API key]", self.remove_from(text))

    def is_in(self, text: str) -> bool:
        return len(self._key) >= 8 and self._key in text
