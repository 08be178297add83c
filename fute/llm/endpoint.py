"""An endpoint of a study, resolved by its provider: who is asked, under which name, with which fields."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from fute.config import EndpointConfig
from fute.llm.providers import PROVIDERS
from fute.llm.types import Completer


def open_provider(endpoint: EndpointConfig, api_key: str | None = None) -> Completer:
    """The innermost layer for an endpoint. Opens no connection and loads no weights before the first request.

    Raises:
        ConfigError: a library is missing that the provider needs.
    """
    return import_module(PROVIDERS[endpoint.api].module).connect(endpoint, api_key)


def located(endpoint: EndpointConfig, base_dir: Path) -> EndpointConfig:
    """The endpoint with its model's folder made absolute, where it is a folder; a study's paths start at `base_dir`."""
    if PROVIDERS[endpoint.api].over_http:
        return endpoint
    folder = base_dir / Path(endpoint.model).expanduser()
    return endpoint.model_copy(update={"model": str(folder.resolve())}) if folder.is_dir() else endpoint


def request_fields(endpoint: EndpointConfig) -> dict[str, Any]:
    """What the endpoint adds to each request: its `parameters`; of a model in this process also what identifies it."""
    provider = PROVIDERS[endpoint.api]
    if provider.over_http:
        return dict(endpoint.parameters)
    return {**endpoint.parameters, **import_module(provider.module).identity(endpoint)}


def service_of(endpoint: EndpointConfig) -> str:
    """What identifies an endpoint, wherever it is reached."""
    return endpoint.service or endpoint.address or endpoint.api
