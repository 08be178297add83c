"""A failed exchange with an endpoint as an error of ours: what may pass by itself, what may be about the one input,
what will not change; and no secret in it.

Nothing here is raised `from` the HTTP library's exception: that one carries the request with its key, and a printed
traceback would show it.

    ModelError
    ├── TransientError    worth another attempt
    ├── InputFailed       worth none, and the next input may well be answered
    └── UnusableAnswer    an answer that came and cannot be taken; the next would be like it
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fute.errors import ConfigError, ModelError
from fute.llm.asked_waits import wait_asked_s
from fute.llm.server_words import error_of

TRANSIENT_STATUS = frozenset({408, 409, 425, 429})
OF_THE_ENDPOINT = frozenset({401, 402, 404, 405, 407})
"""No input changes these: key, account, address."""


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


class InputFailed(ModelError):
    """The endpoint turned this request away, or failed at it each time. Whether the input or the endpoint is at fault
    shows in what becomes of other inputs, so nothing of it is kept.

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

    def remove_parts_from(self, text: str) -> str:
        """The text without words that begin like the key, as servers show a key that they refuse: sk-abcde***wxyz."""
        if len(self._key) < 8:
            return text
        return re.sub(rf"{re.escape(self._key[:6])}\S*", "[API key]", self.remove_from(text))

    def is_in(self, text: str) -> bool:
        return len(self._key) >= 8 and self._key in text


def from_status(where: str, status: int | None, headers: Mapping[str, str], said: Any, secret: Secret) -> ModelError:
    """The error for an answer that is none.

    Args:
        status: 300 or more; None for an error within an answer with status 200, which may pass like one with 500.
        said: its body, free of the key already.
    """
    shown, status = (f"HTTP {status}", status) if status is not None else ("an error with HTTP 200", 500)
    if 300 <= status < 400:
        return ModelError(f"{where}: HTTP {status}: it redirects elsewhere, which is not followed; correct base_url")
    code, message = error_of(said)
    says = secret.remove_parts_from(
        f"{where}: {shown}{f' ({code})' if code not in (None, str(status)) else ''}{f': {message}' if message else ''}"
    )
    # Sent with status 429, but no waiting fills an account.
    if code != "insufficient_quota" and (status in TRANSIENT_STATUS or status >= 500):
        wait_s = wait_asked_s(status, headers, said)
        return TransientError(says, wait_s, may_be_charged=not _surely_free(status, wait_s))
    key = "the API key was refused" if secret else "no API key was sent"
    if status == 401:
        return ModelError(f"{says}; {key}: set the environment variable that api_key_env names")
    if status == 404:
        return ModelError(f"{says}; check base_url (it mostly ends in /v1) and the model's name")
    if status in OF_THE_ENDPOINT or code == "insufficient_quota":
        return ModelError(says)
    if status == 403:
        says += f"; where it is not for what was asked, {key}: look at the environment variable that api_key_env names"
    return InputFailed(says)


def _surely_free(status: int, wait_s: float | None) -> bool:
    """Whether the status says that no model has worked on the request. A gateway gives 408, 500, 502 and 504 also when
    the model behind it had begun, or had answered."""
    return (status == 503 and wait_s is not None) or (400 <= status < 500 and status != 408)
