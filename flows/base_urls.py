"""Other addresses for a study's endpoints."""

from __future__ import annotations

from pydantic import ValidationError

from fute.config import EndpointConfig, Study
from fute.errors import ConfigError
from fute.llm.endpoint import service_of


def with_base_urls(study: Study, base_urls: dict[str, str]) -> Study:
    """The study with other addresses for some endpoints: the same service, moved.

    Raises:
        ConfigError: there is no such endpoint, or this is no address for one.
    """
    unknown = sorted(set(base_urls) - {e.id for e in study.endpoints})
    if unknown:
        known = ", ".join(e.id for e in study.endpoints) or "none"
        raise ConfigError(f"base_urls: no endpoint {unknown[0]!r} in study {study.name}; there are: {known}")
    endpoints = [_moved(e, base_urls[e.id]) if e.id in base_urls else e for e in study.endpoints]
    return study.model_copy(update={"endpoints": endpoints})


def _moved(endpoint: EndpointConfig, base_url: str) -> EndpointConfig:
    fields = {**endpoint.model_dump(), "base_url": base_url, "service": service_of(endpoint)}
    try:
        return EndpointConfig.model_validate(fields)
    except ValidationError as exc:
        # Without the address: what should not be in it may be a password.
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'base_url'}: {e['msg']}" for e in exc.errors())
    raise ConfigError(
        f"base_urls: endpoint {endpoint.id}: {problems}; "
        "give an address like https://api.openai.com/v1, without user name, password or query"
    )
