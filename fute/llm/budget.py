"""What a run may spend. Requests in flight are reserved at the most they can cost, so a limit holds at any concurrency.

A request is sent only if all that is spent, all that is in flight and the request's own worst case stay within every
limit. So a limit is never passed, as long as the endpoint keeps `max_tokens` and counts no more than one token for a
byte of the prompt. If it does not, it is passed by what the requests in flight surpass their reservations, and then no
more are sent.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fute import stopping
from fute.config import BudgetConfig, EndpointConfig
from fute.errors import ModelError, StoreError
from fute.llm.types import Answer, ChatRequest, Completer
from fute.stopping import Stopped

logger = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class Refusal:
    """Why a reservation was refused, as of one moment.

    Attributes:
        in_flight: unsettled reservations of this process. Most calls cost less than was reserved, so another try is
            worth it once one settles; with none there is nothing to wait for.
        spent: settled.
        reserved: unsettled, by this process, another one, or one that was killed.
    """

    in_flight: int
    spent: Spending
    reserved: Spending


class Account(Protocol):
    """Keeps count of one budget. All methods are called from many threads."""

    name: str
    limits: BudgetConfig

    def reserve(self, most: Spending) -> Refusal | None:
        """Take this out of what is left. If less is left, take nothing and say why."""

    def settle(self, reserved: Spending, spent: Spending) -> None:
        """Replace a reservation by what was spent. It is no longer in flight even if this raises."""


class Budget:
    """Reserves, asks, settles. Within the retry layer: an attempt that may have been charged counts, answered or not.

    Args:
        accounts: of the run, of the endpoint; a request has to fit into all of them.
    """

    def __init__(self, inner: Completer, endpoint: EndpointConfig, accounts: Sequence[Account]) -> None:
        self._inner = inner
        self._endpoint = endpoint
        self._accounts = accounts
        self._broken: StoreError | None = None

    def complete(self, request: ChatRequest) -> Answer:
        """Answer, even if the cost could not be booked: the answer is paid for. Then the next request is not sent.

        Raises:
            BudgetExhausted: the request could pass a limit, with nothing left in flight.
            StoreError: an account cannot be written; its reservations stay.
        """
        if self._broken is not None:
            raise self._broken
        most = self._call(request.most_tokens_in, request.max_tokens)
        self._reserve(most)
        spent = most  # of an answer without counts, and of what ends in a way that nobody thought of
        try:
            answer = self._inner.complete(request)
            if answer.tokens_in is not None and answer.tokens_out is not None:
                spent = self._call(answer.tokens_in, answer.tokens_out)
            return answer
        except (ModelError, Stopped) as exc:
            spent = most if exc.may_be_charged else Spending()
            raise
        finally:
            self._settle(self._accounts, most, spent)

    def _reserve(self, most: Spending) -> None:
        for i, account in enumerate(self._accounts):
            try:
                _wait_for(account, most)
            except BaseException:
                self._settle(self._accounts[:i], most, Spending())
                raise

    def _settle(self, accounts: Sequence[Account], most: Spending, spent: Spending) -> None:
        """Settle each on its own: one that cannot be written must affect neither the others nor the answer."""
        for account in accounts:
            try:
                account.settle(most, spent)
            except Exception as exc:
                logger.warning("the budget of %s could not be written: %s", account.name, exc)
                self._broken = StoreError(
                    f"the budget of {account.name} could not be written ({exc}), so no more is spent; the answers that "
                    "came are kept. Free the store's disk or its lock and run the same command again"
                )

    def _call(self, tokens_in: int, tokens_out: int) -> Spending:
        return Spending(1, tokens_in + tokens_out, cost_usd(self._endpoint, tokens_in, tokens_out) or 0.0)


def _wait_for(account: Account, most: Spending) -> None:
    """Reserve, waiting for requests in flight to settle: most cost less than was reserved for them."""
    while (refusal := account.reserve(most)) is not None:
        if not refusal.in_flight:
            raise BudgetExhausted(_message(account, most, refusal))
        stopping.pause(SETTLING_S)


def cost_usd(endpoint: EndpointConfig, tokens_in: int | None, tokens_out: int | None) -> float | None:
    """US dollars for so many tokens; None where the price or the number is not known."""
    price_in, price_out = endpoint.usd_per_million_tokens_in, endpoint.usd_per_million_tokens_out
    if price_in is None or price_out is None or tokens_in is None or tokens_out is None:
        return None
    return (tokens_in * price_in + tokens_out * price_out) / 1e6


def passed(limits: BudgetConfig, spending: Spending) -> str | None:
    """The name of a limit that this would exceed; None if it stays within all."""
    for name in ("calls", "tokens", "usd"):
        limit = getattr(limits, f"max_{name}")
        # A hair's breadth for sums of floats; a millionth of a limit is no overspending.
        if limit is not None and getattr(spending, name) > limit * (1 + 1e-9):
            return f"max_{name}"
    return None


def _message(account: Account, most: Spending, refusal: Refusal) -> str:
    field = passed(account.limits, refusal.spent + refusal.reserved + most) or "max_calls"
    limit = getattr(account.limits, field)
    dollars = field == "max_usd"

    def amount(spending: Spending) -> str:
        return f"${spending.usd:.4f}" if dollars else f"{getattr(spending, field.removeprefix('max_')):,}"

    what = {"max_calls": " calls are made", "max_tokens": " tokens are spent", "max_usd": " are spent"}[field]
    says = f"{amount(refusal.spent)} of {f'${limit:g}' if dollars else f'{limit:,}'}{what}"
    if refusal.reserved.calls:  # this process has none in flight when it gives up
        says += f", {amount(refusal.reserved)} are held for calls of other processes (running or killed)"
    if field != "max_calls":
        says += f" and the next call could take up to {amount(most)}"
    return (
        f"the budget of {account.name} is used up: {says}. To go on, run the same command again (each run has its "
        f"budget anew), or raise {field} first; what was answered is in the store and is not paid again"
    )
