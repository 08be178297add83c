"""Anthropic's messages protocol, through the official `anthropic` SDK: no retries, no redirects, bounded.

It has no log-probabilities, so that answers are read as text or drawn several times.
"""

from __future__ import annotations

from typing import Any

import httpx

from fute.config import EndpointConfig
from fute.errors import ConfigError, ModelError
from fute.llm.exchange import GuardedClient
from fute.llm.failures import TransientError
from fute.llm.transport import NO_KEY, Post, Transport
from fute.llm.types import Answer, ChatRequest, Completer
from fute.llm.wire import Wire, text_or_none, token_counts, with_extra

try:
    import anthropic
    import httpx2
except ImportError as exc:
    raise ConfigError("api: anthropic needs its SDK; install it with: pip install 'fute[anthropic]'") from exc

FINISHED = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "refusal": "refusal"}
"""Anthropic's reasons to stop in the words of the other protocols."""


def connect(endpoint: EndpointConfig, api_key: str | None) -> Completer:
    return AnthropicMessages(endpoint.address, api_key=api_key, timeout_s=endpoint.timeout_s)


def request_body(request: ChatRequest) -> dict[str, Any]:
    if request.echo:
        raise ModelError(f"{request.base_url} ({request.model}): Anthropic does not tell how probable a prompt is")
    system = "\n".join(message.content for message in request.messages if message.role == "system")
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [message._asdict() for message in request.messages if message.role != "system"],
        "max_tokens": request.max_tokens,
        "temperature": min(request.temperature, 1.0),  # its scale ends there
    }
    if system:
        body["system"] = system
    return with_extra(body, request)


def read_answer(where: str, request: ChatRequest, payload: Any, latency_ms: float) -> Answer:
    """The answer in a body with status 200: its text blocks, without what the model thought.

    Raises:
        TransientError: not the shape of a message.
    """
    content = payload.get("content") if isinstance(payload, dict) else None
    if not isinstance(content, list):
        raise TransientError(f"{where}: the answer has no content")
    texts = [block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text"]
    if not all(isinstance(text, str) for text in texts):
        raise TransientError(f"{where}: the answer holds a text block without a text")
    tokens_in, tokens_out = token_counts(payload, "input_tokens", "output_tokens")
    reason = text_or_none(payload.get("stop_reason"))
    return Answer(
        text="".join(text for text in texts if text),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        latency_ms=latency_ms,
        resolved_model=text_or_none(payload.get("model")),
        finish_reason=FINISHED.get(reason, reason) if reason else None,
    )


WIRE = Wire("/v1/messages", request_body, read_answer)


class AnthropicMessages(Transport):
    """The innermost layer, as for the other protocols."""

    def __init__(self, base_url: str, **options: Any) -> None:
        # The SDK's own paths begin with /v1, and other APIs have taught everyone to write it into the address.
        address = base_url.rstrip("/").removesuffix("/v1")
        super().__init__(address, wire=WIRE, sdk=anthropic_sdk, key_header=("X-Api-Key", ""), **options)


def anthropic_sdk(http: GuardedClient, base_url: str) -> Post:
    """The `anthropic` SDK on a guarded client."""
    through = _Through(http)
    sdk = anthropic.Anthropic(
        base_url=base_url,
        # Said always, or the SDK would look for keys in the environment and in files.
        api_key=NO_KEY,
        max_retries=0,
        http_client=httpx2.Client(transport=through, trust_env=False, follow_redirects=False, timeout=None),
    )

    def post(url: str, body: dict[str, Any]) -> httpx.Response:
        failure: BaseException | None = None
        through.answered = None
        try:
            sdk.post(url, cast_to=httpx2.Response, body=body)
        except anthropic.APIStatusError:
            pass
        except anthropic.APIConnectionError as exc:
            failure = exc.__cause__ or exc
        if failure is not None:
            raise failure
        assert through.answered is not None  # neither an answer nor a failure: the SDK has not sent anything
        return through.answered

    return post


class _Through(httpx2.BaseTransport):
    """The SDK speaks httpx2 only; what it sends goes through the guarded client all the same."""

    def __init__(self, http: GuardedClient) -> None:
        self._http = http
        self.answered: httpx.Response | None = None

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answered = self._http.send(
            httpx.Request(request.method, str(request.url), headers=request.headers.raw, content=request.read())
        )
        self.answered = answered
        return httpx2.Response(
            answered.status_code, headers=answered.headers.raw, content=answered.content, request=request
        )
