"""The OpenAI chat protocol, which hosted vendors, vLLM, Ollama, llama.cpp, TGI and LM Studio speak."""

from __future__ import annotations

from fute.config import EndpointConfig
from fute.llm.transport import Transport
from fute.llm.types import Completer
from fute.llm.wire import CHAT_WIRE


def connect(endpoint: EndpointConfig, api_key: str | None) -> Completer:
    return Transport(endpoint.base_url, api_key=api_key, timeout_s=endpoint.timeout_s, wire=CHAT_WIRE)
