"""Which model an endpoint in this process means, found without loading it, or what would load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fute.config import EndpointConfig
from fute.errors import ConfigError, SurrogateError
from fute.surrogate.source import Source, find_source


def identity(endpoint: EndpointConfig) -> dict[str, Any]:
    """What decides its answers, as JSON values; part of each request.

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
