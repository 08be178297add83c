"""The one place where a request is tried again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from fute.errors import ModelError
from fute.llm.failures import InputFailed, TransientError
from fute.llm.types import Answer, ChatRequest, Completer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How long to wait before another attempt, in seconds.

    Attributes:
        first_s: before the second attempt; doubled for each further one.
        longest_s: bound of the doubling.
        longest_asked_s: bound of what a server may ask for.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    longest_asked_s: float = 120.0

    def seconds(self, failures: int, asked_s: float | None, chance: float) -> float:
        """The wait after so many failures; `chance` is uniform in [0, 1).

        Spread over half the interval (more: as many again for what a server asked), so that the requests that failed
        together do not come back together. What a server asked for is never undercut, except by the bound.
        """
        grown = min(self.longest_s, self.first_s * 2 ** (failures - 1)) * (0.5 + 0.5 * chance)
        if asked_s is None:
            return grown
        return min(self.longest_asked_s, asked_s) + self.first_s * chance


class Retry:
    """Asks again after transient failures: 408, 409, 425, 429, 5xx, broken connections, timeouts, broken answers."""

    def __init__(
        self,
        inner: Completer,
        *,
        max_attempts: int = 6,
        backoff: Backoff | None = None,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._max_attempts = max_attempts
        self._backoff = backoff or Backoff()
        self._sleep = sleep
        self._chance = chance

    def complete(self, request: ChatRequest) -> Answer:
        """
        Raises:
            InputFailed: after all attempts, where the endpoint took the request each time and failed at it.
            ModelError: a failure that will not pass, at once; or the last transient one, after all attempts.
        """
        attempt = 1
        while True:
            try:
                return self._inner.complete(request)
            except TransientError as exc:
                if attempt >= self._max_attempts:
                    says = f"{exc} (given up after {attempt} attempts)"
                    raise (InputFailed(says, may_pass=True) if exc.may_be_charged else ModelError(says)) from exc
                wait_s = self._backoff.seconds(attempt, exc.retry_after_s, self._chance())
                logger.info("attempt %d of %d: %s; again in %.1f s", attempt, self._max_attempts, exc, wait_s)
            self._sleep(wait_s)
            attempt += 1
