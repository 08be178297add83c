"""What the LLM calls of a run will cost, before the first is made: how many, of how many tokens, at which price."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic import BaseModel

from fute.config import EndpointConfig
from fute.llm.budget import cost_usd
from fute.llm.cache import ResponseLedger
from fute.llm.client import service_of
from fute.llm.estimate import CHARACTERS_A_TOKEN, TOKENS_A_MESSAGE
from fute.llm.types import ChatRequest
from fute.models.prompted import PromptedModel, missing_calls
from fute.types import TextTable
from storage.catalog import Catalog
from storage.store import Store

MIN_MEASURED = 20  # kept answers from which tokens are reckoned, at least


class Cost(BaseModel):
    """Calls that are not in the ledger yet."""

    calls: int = 0
    tokens: int = 0
    usd: float | None = 0.0
    """None: the endpoint's prices are not known."""
    basis: str = ""
    """How the tokens were reckoned."""


@dataclass(frozen=True)
class _Rates:
    """Tokens a character of a request, and of an answer."""

    tokens_in_a_character: float
    tokens_out: float
    basis: str


class CostEstimate:
    """Reckons from the answers that this store holds of the same model, else from rules of thumb. Asks nobody."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, model: PromptedModel, endpoint: EndpointConfig, inputs: TextTable, ledger: ResponseLedger) -> Cost:
        """What asking about all inputs will cost, beside what the ledger has."""
        calls = missing_calls(model, inputs, ledger)
        if not calls:
            return Cost()
        distinct = {request.key: request for _, request in model.requests(inputs)}
        missing = [request for key, request in distinct.items() if ledger.get(key) is None] or [*distinct.values()]
        rates = self._rates(endpoint, missing)
        characters = sum(_characters(request) for request in missing) / len(missing)
        # A prompt that is asked in several steps makes more calls than it has first questions; each counts as one.
        tokens_in = round(calls * characters * rates.tokens_in_a_character)
        tokens_out = round(calls * rates.tokens_out)
        usd = cost_usd(endpoint, tokens_in, tokens_out)
        return Cost(calls=calls, tokens=tokens_in + tokens_out, usd=usd, basis=rates.basis)

    def _rates(self, endpoint: EndpointConfig, missing: Sequence[ChatRequest]) -> _Rates:
        max_tokens = missing[0].max_tokens
        measured = self._measured.get((service_of(endpoint), endpoint.model, max_tokens))
        if measured is not None:
            n, tokens_in, tokens_out = measured
            return _Rates(tokens_in, tokens_out, f"tokens as in {n:,} kept answers of this model")
        characters = sum(_characters(request) for request in missing)
        spoken = sum(
            len(message.content) / CHARACTERS_A_TOKEN + TOKENS_A_MESSAGE
            for request in missing
            for message in request.messages
        )
        basis = f"{CHARACTERS_A_TOKEN:g} characters a token, answers as long as allowed ({max_tokens} tokens)"
        return _Rates(spoken / characters, max_tokens, basis)

    @cached_property
    def _measured(self) -> dict[tuple[str, str, int], tuple[int, float, float]]:
        """(service, model, max_tokens) -> (answers, tokens in a character, tokens out an answer)."""
        query = """
            SELECT service, model, CAST(params->>'max_tokens' AS INTEGER) AS room, count(*),
                   sum(tokens_in) / sum(length(messages)), avg(tokens_out)
            FROM responses WHERE tokens_in IS NOT NULL AND tokens_out IS NOT NULL
            GROUP BY service, model, room HAVING count(*) >= $least
        """
        with Catalog(self._store.root) as catalog:
            rows = catalog.query(query, {"least": MIN_MEASURED}).rows
        return {(service, model, room): (n, a, b) for service, model, room, n, a, b in rows}


def _characters(request: ChatRequest) -> int:
    """Of the messages as the ledger writes them."""
    messages = [message._asdict() for message in request.messages]
    return len(json.dumps(messages, ensure_ascii=False, separators=(",", ":")))
