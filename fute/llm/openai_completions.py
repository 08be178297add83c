"""The older completions protocol: one text that the model goes on with, as base models are served.

With `echo` a server gives back the prompt itself with the log-probability of each of its tokens. OpenAI, vLLM and
llama.cpp's Python server have it, others ignore it, which shows and is an error.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from fute.config import EndpointConfig
from fute.llm.failures import TransientError, UnusableAnswer
from fute.llm.transport import Transport
from fute.llm.types import Answer, ChatRequest, Completer, TokenLogprobs
from fute.llm.wire import (
    PENALTIES,
    Wire,
    first_choice,
    logprob_or_none,
    text_or_none,
    with_extra,
)

ECHO_TOP = 1  # of the prompt's tokens only their own log-probability is wanted


def connect(endpoint: EndpointConfig, api_key: str | None) -> Completer:
    return Transport(endpoint.base_url, api_key=api_key, timeout_s=endpoint.timeout_s, wire=COMPLETIONS_WIRE)


def request_body(request: ChatRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "prompt": request.as_text,
        "temperature": request.temperature,
        "max_tokens": 0 if request.echo else request.max_tokens,
        **PENALTIES,
    }
    if request.echo:
        body |= {"echo": True, "logprobs": ECHO_TOP}
    elif request.top_logprobs is not None:
        body["logprobs"] = request.top_logprobs
    return with_extra(body, request)


def read_answer(where: str, request: ChatRequest, payload: Any) -> Answer:
    """
    Raises:
        TransientError: no choices, or not the shape of a completion.
        ModelError: the prompt was to be echoed with its log-probabilities, and the server did not do that.
    """
    choice = first_choice(where, payload)
    text = choice.get("text")
    if not isinstance(text, str):
        raise TransientError(f"{where}: the answer's first choice has no text")
    logprobs = _logprobs(choice.get("logprobs"))
    if request.echo:
        offsets = choice["logprobs"].get("text_offset") if logprobs else None
        text, logprobs = _echoed(where, request.as_text, text, logprobs, offsets)
    return Answer(text, logprobs, finish_reason=text_or_none(choice.get("finish_reason")))


COMPLETIONS_WIRE = Wire("/completions", request_body, read_answer)


def _echoed(
    where: str, prompt: str, text: str, positions: tuple[TokenLogprobs, ...] | None, offsets: Any
) -> tuple[str, tuple[TokenLogprobs, ...]]:
    """The prompt and its positions, without what a server generated although it was asked for nothing."""
    if positions is None or not text.startswith(prompt[:20]):
        raise UnusableAnswer(
            f"{where}: the server does not echo the prompt with its log-probabilities, so its perplexity is unknown; "
            "use an endpoint that does (OpenAI completions, vLLM)"
        )
    if not isinstance(offsets, list) or len(offsets) != len(positions):
        # Where each token begins, reckoned by the tokens before it.
        offsets = [0, *accumulate(len(position.token) for position in positions)][:-1]
    kept = [p for p, offset in zip(positions, offsets, strict=True) if isinstance(offset, int) and offset < len(prompt)]
    return prompt, tuple(kept)


def _logprobs(given: Any) -> tuple[TokenLogprobs, ...] | None:
    given = given if isinstance(given, dict) else {}
    tokens = given.get("tokens")
    if not isinstance(tokens, list) or not tokens:
        return None

    def beside(name: str) -> list[Any]:
        values = given.get(name)
        return values if isinstance(values, list) and len(values) == len(tokens) else [None] * len(tokens)

    positions: list[TokenLogprobs] = []
    for token, logprob, top in zip(tokens, beside("token_logprobs"), beside("top_logprobs"), strict=True):
        value = logprob_or_none(logprob)
        if value is None and not positions:
            value = 0.0  # nothing stands before a prompt's first token, so it has no probability: certain, for all sums
        if value is None or not isinstance(token, str):
            return None
        others = top.items() if isinstance(top, dict) else ()
        pairs = [(other, known) for other, its in others if (known := logprob_or_none(its)) is not None]
        positions.append(
            TokenLogprobs(token, value, tuple(sorted(pairs, key=lambda pair: -pair[1])) or ((token, value),))
        )
    return tuple(positions)
