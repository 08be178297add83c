"""A transformers model in this process as a provider."""

from __future__ import annotations

from fute.config import EndpointConfig
from fute.llm.local_source import identity
from fute.llm.types import Answer, ChatRequest, Completer

__all__ = ["connect", "identity"]


def connect(endpoint: EndpointConfig, api_key: str | None) -> Completer:
    return _Opened(endpoint)


class _Opened:
    """Loads on the first request, so that looking at a study loads nothing."""

    def __init__(self, endpoint: EndpointConfig) -> None:
        self._endpoint = endpoint

    def complete(self, request: ChatRequest) -> Answer:
        from fute.llm.local_model import shared_model

        return shared_model(self._endpoint).complete(request)
