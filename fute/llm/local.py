"""A transformers model in this process as a provider. Nothing is loaded before the first request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fute.config import EndpointConfig
from fute.errors import ConfigError, SurrogateError
from fute.llm.types import Answer, ChatRequest, Completer
from fute.surrogate.source import Source, find_source


def connect(endpoint: EndpointConfig, api_key: str | None) -> Completer:
    return _LoadedOnFirstUse(endpoint)


class _LoadedOnFirstUse:
    def __init__(self, endpoint: EndpointConfig) -> None:
        self._endpoint = endpoint

    def complete(self, request: ChatRequest) -> Answer:
        from fute.llm.local_model import shared_model

        return shared_model(source_of(self._endpoint), self._endpoint.local).complete(request)


def identity(endpoint: EndpointConfig) -> dict[str, Any]:
    """What determines its answers, as JSON values; part of each request.

    Raises:
        ConfigError: there is no such model.
    """
    local = endpoint.local
    return {
        "weights": source_of(endpoint).revision,
        "dtype": local.dtype,
        "quantization": local.quantization,
        "max_prompt_tokens": local.max_tokens,
    }


def source_of(endpoint: EndpointConfig) -> Source:
    """Raises ConfigError: there is no such model."""
    try:
        return find_source(endpoint.model, endpoint.local.revision, Path())
    except SurrogateError as exc:
        raise ConfigError(f"endpoint {endpoint.id}: {exc}") from exc
