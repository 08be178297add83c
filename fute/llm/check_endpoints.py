"""What can be wrong with a study's endpoints beside their fields: keys named twice, budgets without prices, fields
of a request that are not theirs to set."""

from __future__ import annotations

from collections.abc import Iterator

from fute.config import Study
from fute.llm.address import sent_in_the_clear
from fute.llm.check_parameters import parameter_problems


def endpoint_problems(study: Study) -> Iterator[str]:
    for number, endpoint in enumerate(study.endpoints):
        where = f"endpoints[{number}] ({endpoint.id})"
        if endpoint.api_key_env is not None and endpoint.api_key_block is not None:
            yield f"{where}: api_key_env and api_key_block both say where the key is; take one of them out"
        has_key = endpoint.api_key_env is not None or endpoint.api_key_block is not None
        if has_key and (problem := sent_in_the_clear(endpoint.address)) is not None:
            yield f"{where}.base_url: {problem}"
        yield from parameter_problems(where, endpoint)
        prices = (endpoint.usd_per_million_tokens_in, endpoint.usd_per_million_tokens_out)
        if (prices[0] is None) != (prices[1] is None):
            yield f"{where}: give both usd_per_million_tokens_in and usd_per_million_tokens_out, or neither"
        if None in prices:
            for field, budget in ((f"{where}.budget", endpoint.budget), ("budget", study.budget)):
                if budget.max_usd is not None:
                    yield (
                        f"{field}.max_usd: the prices of endpoint {endpoint.id} are not known; give "
                        "usd_per_million_tokens_in and usd_per_million_tokens_out (0 where nothing is paid)"
                    )
