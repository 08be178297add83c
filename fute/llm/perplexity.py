"""How probable a prompt is to the model that it asks, which SPELL ranks prompts by.

Source: Gonen et al. 2023, arXiv 2212.04037.
"""

from __future__ import annotations

import math
from dataclasses import replace

from fute.errors import ModelError
from fute.llm.types import Answer, ChatRequest


def echo_request(request: ChatRequest) -> ChatRequest:
    """The same prompt, asked for its own log-probabilities instead of an answer."""
    return replace(request, echo=True, max_tokens=0, temperature=0.0, top_logprobs=None, sample=0, candidates=())


def perplexity(answer: Answer) -> float:
    """exp of the mean negative log-probability of the prompt's tokens, from the second on (nothing precedes the first).

    Raises:
        ModelError: the prompt has fewer than two tokens.
    """
    logprobs = [position.logprob for position in answer.logprobs or ()][1:]
    if not logprobs:
        raise ModelError("a prompt of one token has no perplexity; give a longer one")
    return math.exp(-math.fsum(logprobs) / len(logprobs))
