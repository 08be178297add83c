"""Other addresses for the endpoints of a study are checked like those in its file."""

from __future__ import annotations

import pytest

from flows.base_urls import with_base_urls
from fute.check_study import check_study
from fute.config import EndpointConfig, PoolConfig, Study
from fute.errors import ConfigError
from fute.llm.endpoint import service_of

pytestmark = pytest.mark.slow


def study(**fields: str) -> Study:
    pool = PoolConfig.model_validate({"sources": [{"data": {"files": "x.csv"}}]})
    return Study(name="s", pool=pool, endpoints=[EndpointConfig(id="e", model="m", **fields)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    ["http://user:very-secret@127.0.0.1/v1", "http://127.0.0.1/v1?token=very-secret", "ftp://127.0.0.1", "127.0.0.1"],
)
def test_an_address_with_a_password_or_a_query_or_none_at_all_is_refused(address):
    with pytest.raises(ConfigError, match="base_urls: endpoint e: base_url") as caught:
        with_base_urls(study(base_url="http://127.0.0.1:1/v1"), {"e": address})
    assert "very-secret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("fields", [{"base_url": "http://127.0.0.1:1/v1"}, {"api": "anthropic"}])
def test_a_moved_endpoint_is_the_same_service(fields):
    before = study(**fields)
    after = with_base_urls(before, {"e": "http://127.0.0.1:2/v1"})
    assert after.endpoints[0].base_url == "http://127.0.0.1:2/v1"
    assert service_of(after.endpoints[0]) == service_of(before.endpoints[0])


def test_a_key_is_not_moved_to_an_address_that_everyone_on_the_way_can_read():
    moved = with_base_urls(study(base_url="https://a.example/v1", api_key_env="K"), {"e": "http://a.example/v1"})
    with pytest.raises(ConfigError, match=r"endpoints\[0\] \(e\).base_url: the API key would be sent .* use https"):
        check_study(moved)
