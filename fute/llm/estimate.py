"""How many tokens a request will take, before it is sent: for rate limits, for budgets, for the dry run."""

from __future__ import annotations

from math import ceil

from fute.llm.types import ChatRequest

CHARACTERS_A_TOKEN = 4.0  # of English text under the usual vocabularies; other languages and code take more tokens
TOKENS_A_MESSAGE = 8  # role, separators, and the beginning of the answer, at most


def likely_tokens(request: ChatRequest) -> int:
    """In and out together, as a service reckons beforehand: the whole room for the answer counts."""
    characters = sum(len(message.content) for message in request.messages)
    return ceil(characters / CHARACTERS_A_TOKEN) + TOKENS_A_MESSAGE * len(request.messages) + request.max_tokens


def most_tokens_in(request: ChatRequest) -> int:
    """No vocabulary in use makes more than one token of one byte, so a prompt cannot cost more than this."""
    return sum(len(message.content.encode()) + TOKENS_A_MESSAGE for message in request.messages)
