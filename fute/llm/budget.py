"""What a run may spend. Requests in flight are reserved at the most they can cost, so a limit holds at any concurrency.

A request is sent only if all that is spent, all that is in flight and the request's own worst case stay within every
limit. So a limit is never passed, as long as the endpoint keeps `max_tokens` and counts no more than one token for a
byte of the prompt. If it does not, it is passed by what the requests in flight surpass their reservations, and then no
more are sent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fute.config import BudgetConfig, EndpointConfig
from fute.errors import ModelError
from fute.llm.estimate import most_tokens_in
from fute.llm.failures import TransientError
from fute.llm.types import Answer, ChatRequest, Completer

SETTLING_S = 0.01  # between two looks whether requests in flight have cost less than was reserved for them


class BudgetExhausted(ModelError):
    """The next request could pass a limit. It was not sent."""


@dataclass(frozen=True)
class Spending:
    """Calls, tokens (in and out) and US dollars."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Spending) -> Spending:
        return Spending(self.calls + other.calls, self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: Spending) -> Spending:
        return Spending(self.calls - other.calls, self.tokens - other.tokens, self.usd - other.usd)


class Account(Protocol):
    """Keeps count of one budget. All methods are called from many threads."""

    name: str
    limits: BudgetConfig
    in_flight: int
    """Reservations of this process that are not settled."""

    def reserve(self, most: Spending) -> bool:
        """Take this out of what is left; False, and nothing is taken, if there is not so much left."""
        ...

    def settle(self, reserved: Spending, spent: Spending) -> None:
        """Put back what was reserved, and take out what was spent."""
        ...

    def taken(self) -> Spending:
        """What is spent and reserved now."""
        ...


class MemoryAccount:
    """An account of one process."""

    def __init__(self, name: str, limits: BudgetConfig) -> None:
        self.name = name
        self.limits = limits
        self.in_flight = 0
        self._taken = Spending()
        self._lock = threading.Lock()

    def reserve(self, most: Spending) -> bool:
        with self._lock:
            if passed(self.limits, self._taken + most) is not None:
                return False
            self._taken += most
            self.in_flight += 1
            return True

    def settle(self, reserved: Spending, spent: Spending) -> None:
        with self._lock:
            self._taken += spent - reserved
            self.in_flight -= 1

    def taken(self) -> Spending:
        with self._lock:
            return self._taken


class Budget:
    """Reserves, asks, settles. Within the retry layer: an attempt that may have been charged counts, answered or not.

    Args:
        accounts: of the run, of the endpoint; a request has to fit into all of them.
    """

    def __init__(self, inner: Completer, endpoint: EndpointConfig, accounts: Sequence[Account]) -> None:
        self._inner = inner
        self._endpoint = endpoint
        self._accounts = accounts

    def complete(self, request: ChatRequest) -> Answer:
        """Raises BudgetExhausted: the request could pass a limit, even when all that is in flight has come back."""
        most = self._most(request)
        self._reserve(most)
        spent = Spending()
        try:
            answer = self._inner.complete(request)
            spent = self._cost(answer, most)
            return answer
        except TransientError as exc:
            spent = most if exc.may_be_charged else Spending()
            raise
        finally:
            for account in self._accounts:
                account.settle(most, spent)

    def _reserve(self, most: Spending) -> None:
        for i, account in enumerate(self._accounts):
            try:
                _wait_for(account, most)
            except BaseException:
                for reserved in self._accounts[:i]:
                    reserved.settle(most, Spending())
                raise

    def _most(self, request: ChatRequest) -> Spending:
        tokens_in = most_tokens_in(request)
        usd = cost_usd(self._endpoint, tokens_in, request.max_tokens)
        return Spending(1, tokens_in + request.max_tokens, usd or 0.0)

    def _cost(self, answer: Answer, most: Spending) -> Spending:
        if answer.tokens_in is None or answer.tokens_out is None:
            return most  # it did not say; nothing is left out of the reckoning for that
        usd = cost_usd(self._endpoint, answer.tokens_in, answer.tokens_out)
        return Spending(1, answer.tokens_in + answer.tokens_out, usd or 0.0)


def _wait_for(account: Account, most: Spending) -> None:
    """Reserve, if need be when requests in flight have come back: most cost less than was reserved for them."""
    while True:
        in_flight = account.in_flight  # looked at first: what comes back after that is worth another try
        if account.reserve(most):
            return
        if not in_flight:
            raise BudgetExhausted(_message(account, most))
        time.sleep(SETTLING_S)


def cost_usd(endpoint: EndpointConfig, tokens_in: int | None, tokens_out: int | None) -> float | None:
    """US dollars for so many tokens; None where the price or the number is not known."""
    price_in, price_out = endpoint.usd_per_million_tokens_in, endpoint.usd_per_million_tokens_out
    if price_in is None or price_out is None or tokens_in is None or tokens_out is None:
        return None
    return (tokens_in * price_in + tokens_out * price_out) / 1e6


def passed(limits: BudgetConfig, spending: Spending) -> str | None:
    """The name of a limit that this would pass."""
    for field, value in (("max_calls", spending.calls), ("max_tokens", spending.tokens), ("max_usd", spending.usd)):
        limit = getattr(limits, field)
        # A hair's breadth for sums of floats; a millionth of a limit is no overspending.
        if limit is not None and value > limit * (1 + 1e-9):
            return field
    return None


def _message(account: Account, most: Spending) -> str:
    taken = account.taken()
    field = passed(account.limits, taken + most) or "max_calls"
    limit = getattr(account.limits, field)
    if field == "max_usd":
        spent = f"${taken.usd:.4f} of ${limit:g} are spent and the next call could take up to ${most.usd:.4f}"
    elif field == "max_tokens":
        spent = f"{taken.tokens:,} of {limit:,} tokens are spent and the next call could take up to {most.tokens:,}"
    else:
        spent = f"{taken.calls:,} of {limit:,} calls are made"
    return (
        f"the budget of {account.name} is used up: {spent}. To go on, run the same command again (each run has its "
        f"budget anew), or raise {field} first; what was answered is in the store and is not paid again"
    )
