"""What can be wrong with a study's endpoints beside their fields: keys named twice, budgets without prices, fields
of a request that are not theirs to set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fute.address import sent_in_the_clear
from fute.config import EndpointConfig, Study

BOUNDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "n_predict", "num_predict")
"""Names that servers have for the bound of an answer's tokens."""
THINKING = ("budget_tokens", "thinking_budget", "max_thinking_tokens", "reasoning_budget")

OWNED = {
    "model": "it is the endpoint's `model`",
    "messages": "they come from the prompt",
    "prompt": "it comes from the prompt",
    "system": "it is the prompt's `system`",
    "temperature": "it is the `temperature` of the models entry; null leaves it out",
    "n": "answers beside the first would be paid for and not read; `samples` of the models entry asks for more",
    "best_of": "answers beside the first would be paid for and not read; `samples` of the models entry asks for more",
    "num_beams": "answers beside the first would be worked for and not read",
    "stream": "answers are read as one piece",
    "stream_options": "answers are read as one piece",
    "logprobs": "`logprobs` of the endpoint says whether they are asked for; null leaves it out",
    "echo": "fute asks for it where it needs it",
}
"""Field -> why it is not the endpoint's to set."""
NEVER_LEFT_OUT = ("model", "messages", "prompt", *BOUNDS)
"""Without these there is no request, or no bound that a budget could reckon with."""


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


def parameter_problems(where: str, endpoint: EndpointConfig) -> Iterator[str]:
    bounds = {*BOUNDS, endpoint.max_tokens_field}
    if (named := endpoint.max_tokens_field) in OWNED:
        yield f"{where}.max_tokens_field: {named!r} has another meaning: {OWNED[named]}"
    for name, value in endpoint.parameters.items():
        if value is None and name not in NEVER_LEFT_OUT and name not in bounds:
            continue  # as documented: a field that the server does not want is left out
        if name == "logprobs" and endpoint.api == "openai_completions" and type(value) is int:
            continue  # there it is a number, and some servers give more than the usual 5
        if name in OWNED:
            yield f"{where}.parameters: {name} cannot be set there: {OWNED[name]}"
        elif name in bounds:
            yield (
                f"{where}.parameters: {name} cannot be set there, for budgets reckon with another bound; set "
                "max_answer_tokens (max_reasoning_tokens) of the models entry, and its name in max_tokens_field"
            )
        elif endpoint.api != "anthropic" and (found := _named((*THINKING, *bounds), {name: value})):
            # Anthropic counts what is thought to max_tokens. Others think beside it, and no budget would know.
            yield (
                f"{where}.parameters: {found} cannot be set there, for thinking beside the bound of the answer is in "
                "no budget; set max_answer_tokens of the models entry, and for instance reasoning_effort here"
            )


def _named(names: tuple[str, ...], value: Any) -> str | None:
    """The first of these names among the keys of nested objects; null sets nothing."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        if key in names and inner is not None:
            return str(key)
        if (found := _named(names, inner)) is not None:
            return f"{key}.{found}"
    return None
