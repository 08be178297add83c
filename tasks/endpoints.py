"""Prompted LLMs of a study. Here, at the edge, a key is taken from the environment; it goes nowhere else."""

from __future__ import annotations

import os

from fute.config import PromptModel
from fute.errors import ConfigError
from fute.models.prompted import PromptedModel
from tasks import resources
from tasks.run import Run
from tasks.study import StudyParts


def prompted_model(run: Run, config: PromptModel, parts: StudyParts, *, with_key: bool = True) -> PromptedModel:
    """The model, ready to be asked; `with_key=False` for one that is only looked at.

    Raises:
        ConfigError: the environment variable that should hold the key is not set.
    """
    endpoint = parts.endpoints[str(config.endpoint)]
    prompt = parts.prompts[str(config.prompt)]
    key = None
    if with_key and endpoint.api_key_env is not None:
        key = os.environ.get(endpoint.api_key_env)
        if not key:
            raise ConfigError(
                f"endpoint {endpoint.id}: environment variable {endpoint.api_key_env} is not set; "
                "put the API key there, or set api_key_env to null for an endpoint that needs none"
            )
    return PromptedModel(
        str(config.id),
        prompt,
        endpoint,
        temperature=config.temperature,
        max_answer_tokens=config.max_answer_tokens,
        ledger=resources.response_store(run.open_store()),
        api_key=key,
    )
