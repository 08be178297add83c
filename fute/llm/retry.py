"""The only layer that retries."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from fute.errors import ModelError
from fute.llm.failures import InputFailed, TransientError
from fute.llm.types import Answer, ChatRequest, Completer

logger = logging.getLogger(__name__)

FIRST_WAIT_S = 0.5  # before the second attempt; doubled for each further one
LONGEST_WAIT_S = 30.0
LONGEST_ASKED_S = 120.0  # of what a server may ask for


class Retry:
    """Asks again after transient failures: 408, 409, 425, 429, 5xx, broken connections, timeouts, broken answers.

    Args:
        chance: uniform in [0, 1).
    """

    def __init__(
        self,
        inner: Completer,
        *,
        max_attempts: int = 6,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._inner = inner
        self._max_attempts = max_attempts
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
                wait_s = seconds_before_next(attempt, exc.retry_after_s, self._chance())
                logger.info("attempt %d of %d: %s; again in %.1f s", attempt, self._max_attempts, exc, wait_s)
            self._sleep(wait_s)
            attempt += 1


def seconds_before_next(failures: int, asked_s: float | None, chance: float) -> float:
    """The wait after so many failures.

    Spread over half the interval, or over half a second more than a server asked for, so that requests that failed
    together do not come back together. What a server asked for is never undercut, except by the bound.
    """
    if asked_s is not None:
        return min(LONGEST_ASKED_S, asked_s) + FIRST_WAIT_S * chance
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (failures - 1)) * (0.5 + 0.5 * chance)
