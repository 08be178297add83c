"""What an endpoint's parameters may not set: a budget that is reckoned with one bound must not meet another."""

from __future__ import annotations

from typing import Any

import pytest

from fute.config import EndpointConfig, PoolConfig, Study
from fute.llm.check_endpoints import endpoint_problems


def problems(parameters: dict[str, Any], **fields: Any) -> list[str]:
    endpoint = EndpointConfig(id="e", base_url="http://127.0.0.1:9/v1", model="m", parameters=parameters, **fields)
    pool = PoolConfig.model_validate({"sources": [{"data": {"files": "x.csv"}}]})
    study = Study(name="s", pool=pool, endpoints=[endpoint])
    return list(endpoint_problems(study))


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_tokens": 9},
        {"max_tokens": None},
        {"max_completion_tokens": 9},
        {"n": 2},
        {"best_of": 2},
        {"stream": True},
        {"logprobs": True},
        {"model": "other"},
        {"messages": None},
        {"prompt": "x"},
        {"temperature": 0.5},
        {"thinking_budget": 9000},
        {"reasoning": {"max_tokens": 9000}},
        {"chat_template_kwargs": {"thinking_budget": 9000}},
    ],
    ids=str,
)
def test_fields_that_fute_owns_are_refused_by_name(parameters: dict[str, Any]) -> None:
    (problem,) = problems(parameters)
    assert problem.startswith(f"endpoints[0] (e).parameters: {next(iter(parameters))}")
    assert "cannot be set there" in problem


def test_the_bounds_own_name_is_refused_and_so_is_a_name_with_another_meaning() -> None:
    assert "room cannot be set there" in problems({"room": 9}, max_tokens_field="room")[0]
    assert "max_tokens_field: 'n' has another meaning" in problems({}, max_tokens_field="n")[0]


@pytest.mark.parametrize(
    ("parameters", "fields"),
    [
        ({"reasoning_effort": "low", "repetition_penalty": 1.0, "seed": 3, "top_logprobs": 5}, {}),
        ({"temperature": None, "logprobs": None, "frequency_penalty": None, "n": None}, {}),
        ({"logprobs": 20}, {"api": "openai_completions"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, {"api": "anthropic"}),
    ],
)
def test_what_is_the_servers_own_and_null_as_documented_are_taken(
    parameters: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert problems(parameters, **fields) == []
