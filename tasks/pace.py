"""Requests and tokens a minute across all workers of a Prefect server, through its global concurrency limits.

A limit whose slots come back at a steady rate is a rate limit. It holds one second's worth of slots, so that no minute
sees more than sixty-one seconds' worth, and a worker takes a second's worth at once: one call to the server for many
requests.
"""

from __future__ import annotations

import hashlib
import re
import threading
from functools import cache
from math import ceil

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import rate_limit

from fute.config import EndpointConfig
from fute.llm.endpoint import service_of
from fute.llm.limits import Pace


def shared_pace(endpoint: EndpointConfig) -> Pace | None:
    """The pace of an endpoint's service for all workers; None where nothing limits it.

    Creates the limits in the Prefect server, or brings them up to what the study says now.
    """
    if endpoint.requests_per_minute is None and endpoint.tokens_per_minute is None:
        return None
    return _shared_pace(service_of(endpoint), endpoint.requests_per_minute, endpoint.tokens_per_minute)


@cache
def _shared_pace(service: str, requests_per_minute: int | None, tokens_per_minute: int | None) -> Pace:
    buckets = [
        (_Bucket(limit_name(service, unit), per_minute), unit)
        for unit, per_minute in (("requests", requests_per_minute), ("tokens", tokens_per_minute))
        if per_minute is not None
    ]

    def pace(tokens: int) -> None:
        for bucket, unit in buckets:
            bucket.take(tokens if unit == "tokens" else 1)

    return pace


def limit_name(service: str, unit: str) -> str:
    """fute-api.openai.com-v1-1f2e3d4c-requests: to be read in the Prefect UI, and different for different services."""
    words = re.sub(r"[^A-Za-z0-9.]+", "-", re.sub(r"^https?://", "", service)).strip("-")[:60]
    return f"fute-{words}-{hashlib.sha256(service.encode()).hexdigest()[:8]}-{unit}"


class _Bucket:
    """What this worker has taken from one global limit and not used yet."""

    def __init__(self, name: str, per_minute: int) -> None:
        self._name = name
        self._slots = max(1, ceil(per_minute / 60))
        self._left = 0
        self._lock = threading.Lock()
        with get_client(sync_client=True) as client:
            client.upsert_global_concurrency_limit_by_name(name, self._slots, per_minute / 60)

    def take(self, amount: int) -> None:
        # One thread waits for the server, the others for it: they could not go on either.
        with self._lock:
            while self._left < amount:
                rate_limit(self._name, occupy=self._slots, strict=True)
                self._left += self._slots
            self._left -= amount
