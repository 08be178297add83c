"""The layers put together: transport, rate limits, budget, retry, cache."""

from __future__ import annotations

from collections.abc import Sequence

from fute import stopping
from fute.config import EndpointConfig
from fute.llm.budget import Account, Budget
from fute.llm.cache import Cache, ResponseLedger
from fute.llm.endpoint import open_provider, service_of
from fute.llm.limits import Pace, Paced, local_pace, places_at
from fute.llm.retry import Retry
from fute.llm.types import Answer, ChatRequest, Completer


def connect(
    endpoint: EndpointConfig,
    *,
    ledger: ResponseLedger,
    api_key: str | None = None,
    pace: Pace | None = None,
    accounts: Sequence[Account] = (),
) -> Completer:
    """A client for an endpoint of a study. Opens no connection before the first request.

    Args:
        api_key: the key itself, read by the caller from where `api_key_env` points; fute reads no environment.
        pace: waits until a request may be sent; default: the endpoint's limits a minute, kept within this process.
        accounts: budgets that its calls count to.
    """
    service = service_of(endpoint)
    layers: Completer = Stoppable(open_provider(endpoint, api_key))
    pace = pace or local_pace(service, endpoint.requests_per_minute, endpoint.tokens_per_minute)
    if pace is not None:
        layers = Paced(layers, pace)
    if accounts:
        layers = Budget(layers, endpoint, accounts)
    layers = Retry(layers, max_attempts=endpoint.max_attempts, sleep=stopping.pause)
    return Cache(layers, ledger, places_at(service, endpoint.in_flight))


class Stoppable:
    """The last gate before the network: once a run is being stopped, no request leaves.

    Innermost, so that no wait in another layer (a retry, a pace, a place) ends in a request after the stop.
    """

    def __init__(self, inner: Completer) -> None:
        self._inner = inner

    def complete(self, request: ChatRequest) -> Answer:
        stopping.check()
        return self._inner.complete(request)
