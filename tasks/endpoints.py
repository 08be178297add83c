"""Prompted LLMs of a study, and how they are reached: keys, budgets, rate limits, the ledger.

Here, at the edge, a key is taken from the environment or from a Prefect Secret block; it goes nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from fute.config import BudgetConfig, EndpointConfig, PromptModel, Study, SurrogateConfig
from fute.errors import ConfigError
from fute.expand import expand_models
from fute.llm.budget import Account
from fute.llm.cache import FreshSamples
from fute.llm.client import connect
from fute.llm.endpoint import located
from fute.llm.limits import Pace
from fute.llm.types import Completer
from fute.models.prompted import PromptedModel, TextEmbedding
from fute.stopping import Stopped
from fute.surrogate.identity import surrogate_identity
from storage.budgets import StoredAccount
from storage.responses import RunLedger
from tasks import resources
from tasks.run import Run
from tasks.study import StudyParts


def prompted_model(
    run: Run,
    config: PromptModel,
    parts: StudyParts,
    *,
    with_key: bool = True,
    fresh: str | None = None,
    around: Callable[[Completer], Completer] | None = None,
    stop_if_constant: bool = False,
) -> PromptedModel:
    """The model, ready to be asked.

    Args:
        with_key: False for one that is only looked at.
        fresh: ask anew, to be compared with an earlier asking: the name of this one, of which alone the ledger's
            answers are taken.
        around: one more layer, the outermost.
        stop_if_constant: see PromptedModel.

    Raises:
        ConfigError: there is no key where the endpoint says that it is.
    """
    endpoint = located(parts.endpoints[str(config.endpoint)], run.folder)
    prompt = parts.prompts[str(config.prompt)]
    ledger = resources.response_store(run.open_store())
    client = completer(run, endpoint, parts.budget) if with_key else None
    if client is not None and around is not None:
        client = around(client)
    return PromptedModel(
        str(config.id),
        prompt,
        endpoint,
        temperature=config.temperature,
        max_answer_tokens=config.max_answer_tokens,
        max_reasoning_tokens=config.max_reasoning_tokens,
        samples=config.samples,
        calibration=config.calibration,
        ask=config.ask,
        embedding=_embedding(run, parts.surrogate, whole=fresh is not None) if prompt.answer == "text" else None,
        ledger=ledger,
        completer=FreshSamples(client, fresh) if fresh is not None and client is not None else client,
        stop_if_constant=stop_if_constant,
    )


def _embedding(run: Run, surrogate: SurrogateConfig, *, whole: bool) -> TextEmbedding:
    """The study's surrogate as what makes numbers of free-text answers."""
    features = resources.features(run.open_store(), surrogate, run.folder)
    return TextEmbedding(features, surrogate_identity(surrogate, run.folder), **({"axes": None} if whole else {}))


def completer(run: Run, endpoint: EndpointConfig, budget: BudgetConfig) -> Completer:
    """The client of an endpoint for one run: its key, its budgets, the limits of all workers, the store's ledger.

    Raises:
        ConfigError: there is no key where the endpoint says that it is.
    """
    from tasks.pace import shared_pace  # needs Prefect, as whoever asks has it by then

    return connect(
        endpoint,
        ledger=RunLedger(resources.response_store(run.open_store()), endpoint, run.stamp),
        api_key=api_key(endpoint),
        pace=stoppable(run, shared_pace(endpoint)),
        accounts=accounts(run, endpoint, budget),
    )


def stoppable(run: Run, pace: Pace | None) -> Pace | None:
    """The pace of tasks in other processes than the flow's, which hear of a stop by its sign."""
    if not run.scattered:
        return pace
    sign = run.stop_sign

    def wait(tokens: int) -> None:
        if pace is not None:
            pace(tokens)
        if sign.exists():
            raise Stopped

    return wait


def accounts(run: Run, endpoint: EndpointConfig, budget: BudgetConfig) -> list[Account]:
    """The budgets that a call to this endpoint counts to: the run's and the endpoint's, where they have limits."""
    named = [("the run", budget), (f"endpoint {endpoint.id}", endpoint.budget)]
    return [
        resources.account(run, name, partial(_account, run, name, limits))
        for name, limits in named
        if limits != BudgetConfig()
    ]


def _account(run: Run, name: str, limits: BudgetConfig) -> Account:
    return StoredAccount(run.open_store().root / "responses", run.account, name, limits)


def api_key(endpoint: EndpointConfig) -> str | None:
    """The key itself; None for an endpoint that needs none.

    Raises:
        ConfigError: the environment variable is not set, or the Secret block cannot be loaded.
    """
    if endpoint.api_key_env is not None:
        key = os.environ.get(endpoint.api_key_env)
        if not key:
            raise ConfigError(
                f"endpoint {endpoint.id}: environment variable {endpoint.api_key_env} is not set; "
                "put the API key there, or set api_key_env to null for an endpoint that needs none"
            )
        return key
    if endpoint.api_key_block is not None:
        from prefect.blocks.system import Secret

        try:
            return str(Secret.load(endpoint.api_key_block).get())  # type: ignore[union-attr]
        except Exception as exc:  # of many kinds; none of them is shown, for it may quote what it could not read
            problem = type(exc).__name__
        raise ConfigError(
            f"endpoint {endpoint.id}: Prefect Secret block {endpoint.api_key_block!r} cannot be loaded ({problem}); "
            "create it in the Prefect server that this run uses, or name an environment variable in api_key_env"
        )
    return None


def check_keys(study: Study, *, blocks: bool = True) -> None:
    """Before any work: is there a key for every endpoint that the study's prompts use?

    Args:
        blocks: look into Prefect Secret blocks as well, which needs a server.

    Raises:
        ConfigError: all that are missing, one line each.
    """
    used = {model.endpoint for model in expand_models(study) if isinstance(model, PromptModel)}
    problems = []
    for endpoint in study.endpoints:
        if endpoint.id in used and (blocks or endpoint.api_key_block is None):
            try:
                api_key(endpoint)
            except ConfigError as exc:
                problems.append(str(exc))
    if problems:
        raise ConfigError("\n".join(problems))
