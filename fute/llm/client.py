"""The layers put together: transport, retry, limits, cache."""

from __future__ import annotations

from fute.config import EndpointConfig
from fute.llm.cache import Cache, ResponseLedger
from fute.llm.limits import MaxConcurrency
from fute.llm.retry import Retry
from fute.llm.transport import Transport
from fute.llm.types import Completer


def connect(endpoint: EndpointConfig, *, ledger: ResponseLedger, api_key: str | None = None) -> Completer:
    """A client for an endpoint of a study. Opens no connection before the first request.

    Args:
        api_key: the key itself, read by the caller from where `api_key_env` points; fute reads no environment.
    """
    transport = Transport(endpoint.base_url, api_key=api_key, timeout_s=endpoint.timeout_s)
    retry = Retry(transport, max_attempts=endpoint.max_attempts)
    return Cache(MaxConcurrency(retry, service_of(endpoint), endpoint.max_concurrency), ledger)


def service_of(endpoint: EndpointConfig) -> str:
    """What makes it the same endpoint, as part of identities."""
    return endpoint.service or endpoint.base_url
