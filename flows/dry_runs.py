"""The dry runs of commands that ask: from a study as the flow reads it to its plan. No flow is started."""

from __future__ import annotations

from flows.base_urls import with_base_urls
from flows.select_prompts import candidates
from fute.config import SelectConfig, Study
from fute.expand import watched_models
from tasks.dry_runs import label_names, plan_drift, plan_selection
from tasks.plan import Plan


def selection_plan(
    study: Study,
    target: str,
    text: str,
    text_pair: str | None,
    prompts: list[str] | None,
    share: float | None,
    base_urls: dict[str, str],
) -> Plan:
    """What `fute select prompts` would ask."""
    study = with_base_urls(study, base_urls)
    config = study.select
    if share is not None:
        config = SelectConfig.model_validate({**config.model_dump(), "share": share})
    candidates(study, None, prompts)  # none at all is told before anything is read
    models = candidates(study, label_names(study, target), prompts)
    return plan_selection(study, config, models, target, text, text_pair)


def drift_plan(study: Study, renew: bool, base_urls: dict[str, str]) -> Plan:
    """What `fute drift` would ask."""
    study = with_base_urls(study, base_urls)
    models = watched_models(study)
    return plan_drift(study, models, renew)
