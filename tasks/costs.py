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
from fute.llm.endpoint import service_of
from fute.llm.perplexity import echo_request
from fute.llm.types import CHARACTERS_A_TOKEN, TOKENS_A_MESSAGE, ChatRequest
from fute.models.prompted import PromptedModel
from fute.types import TextTable
from storage.store import Store

MIN_MEASURED = 20  # kept answers that a token count is estimated from, at least


class Cost(BaseModel):
    """Calls that are not in the ledger yet."""

    calls: int = 0
    tokens: int = 0
    usd: float | None = 0.0
    """None: the endpoint's prices are not known."""
    basis: str = ""
    """How the tokens were estimated."""


def added(costs: Sequence[Cost]) -> Cost:
    """Of all together; the price is known where each is."""
    paid = [cost for cost in costs if cost.calls]
    prices = [cost.usd for cost in paid]
    return Cost(
        calls=sum(cost.calls for cost in paid),
        tokens=sum(cost.tokens for cost in paid),
        usd=None if None in prices else sum(usd for usd in prices if usd is not None),
        basis="; ".join(dict.fromkeys(cost.basis for cost in paid)),
    )


def times(cost: Cost, factor: float) -> Cost:
    """So many times as much."""
    return cost.model_copy(
        update={
            "calls": round(cost.calls * factor),
            "tokens": round(cost.tokens * factor),
            "usd": None if cost.usd is None else cost.usd * factor,
        }
    )


@dataclass(frozen=True)
class _Rates:
    """Tokens a character of a request, and of an answer."""

    tokens_in_a_character: float
    tokens_out: float
    basis: str


class CostEstimate:
    """Estimates from the answers that the store holds of the same model, else by rules of thumb. Asks nobody."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, model: PromptedModel, endpoint: EndpointConfig, inputs: TextTable, ledger: ResponseLedger) -> Cost:
        """What asking about all inputs will cost, beside what the ledger has."""
        missing = model.missing(inputs, ledger)
        openings = self._cost(endpoint, missing.openings)
        # What the model will have thought is part of the second question. How long it is nobody knows before.
        follow_ups = self._cost(endpoint, missing.follow_ups, more_tokens_in=missing.max_reasoning_tokens)
        if not follow_ups.calls:
            return openings
        basis = (
            f"follow-ups with the longest reasoning that is allowed ({missing.max_reasoning_tokens} tokens, a bound)"
        )
        return added([openings, follow_ups.model_copy(update={"basis": basis})])

    def of_echoes(
        self, model: PromptedModel, endpoint: EndpointConfig, inputs: TextTable, ledger: ResponseLedger
    ) -> Cost:
        """What the perplexities of all inputs will cost: one call each, which reads and writes nothing."""
        echoes = {echo.key: echo for _, request in model.requests(inputs) if (echo := echo_request(request))}
        return self._cost(endpoint, [echo for key, echo in echoes.items() if ledger.get(key) is None])

    def _cost(self, endpoint: EndpointConfig, missing: Sequence[ChatRequest], more_tokens_in: int = 0) -> Cost:
        """Of requests of one kind; `more_tokens_in` of each are not in their messages yet."""
        if not missing:
            return Cost()
        rates = self._rates(endpoint, missing)
        characters = sum(_characters(request) for request in missing)
        tokens_in = round(characters * rates.tokens_in_a_character) + len(missing) * more_tokens_in
        tokens_out = round(len(missing) * rates.tokens_out)
        usd = cost_usd(endpoint, tokens_in, tokens_out)
        return Cost(calls=len(missing), tokens=tokens_in + tokens_out, usd=usd, basis=rates.basis)

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
        from storage.catalog import Catalog

        with Catalog(self._store.root) as catalog:
            rows = catalog.query(query, {"least": MIN_MEASURED}).rows
        return {(service, model, room): (n, a, b) for service, model, room, n, a, b in rows}


def _characters(request: ChatRequest) -> int:
    """Of the messages as the ledger writes them."""
    messages = [message._asdict() for message in request.messages]
    return len(json.dumps(messages, ensure_ascii=False, separators=(",", ":")))
