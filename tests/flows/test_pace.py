"""Requests and tokens a minute across workers: Prefect limits, made by the study and taken a second at a time."""

from __future__ import annotations

import pytest
from prefect.client.orchestration import get_client

import tasks.pace
from fute.config import EndpointConfig
from tasks.pace import limit_name, shared_pace

pytestmark = pytest.mark.slow


def endpoint(**limits: int) -> EndpointConfig:
    return EndpointConfig(id="e", base_url="https://api.example/v1", model="m", **limits)


def test_the_limits_are_made_in_the_server_and_a_second_of_them_is_taken_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[tuple[str, int, bool]] = []
    real = tasks.pace.rate_limit

    def counted(name: str, occupy: int, strict: bool) -> None:
        real(name, occupy=occupy, strict=strict)
        taken.append((name, occupy, strict))

    monkeypatch.setattr(tasks.pace, "rate_limit", counted)
    config = endpoint(requests_per_minute=6000, tokens_per_minute=600_000)
    pace = shared_pace(config)
    assert pace is not None
    assert shared_pace(config) is pace  # one for all models of the process
    for _ in range(25):
        pace(1000)
    requests, tokens = (limit_name("https://api.example/v1", unit) for unit in ("requests", "tokens"))
    assert requests.startswith("fute-api.example-v1-")
    assert [t for t in taken if t[0] == requests] == [(requests, 100, True)]  # 25 requests of 100 a second
    assert [t for t in taken if t[0] == tokens] == [(tokens, 10_000, True)] * 3  # 25,000 tokens of 10,000 a second
    with get_client(sync_client=True) as client:
        made = {name: client.read_global_concurrency_limit_by_name(name) for name in (requests, tokens)}
    assert (made[requests].limit, made[requests].slot_decay_per_second) == (100, 100.0)
    assert (made[tokens].limit, made[tokens].slot_decay_per_second) == (10_000, 10_000.0)


def test_an_endpoint_without_limits_needs_no_server() -> None:
    assert shared_pace(endpoint()) is None
