"""Lists and "*" in a study's models, written out as one model each."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from pydantic import ValidationError

from fute.config import ModelConfig, PromptModel, Study, TrainedModel
from fute.did_you_mean import did_you_mean, listed
from fute.errors import ConfigError


def expand_models(study: Study) -> list[ModelConfig]:
    """The study's models in its order, each prompt with each endpoint, each recipe with each dataset, all with an id.

    A prompted model without a `task` takes that of its prompt. Names are not looked up: `check_study` does that.

    Raises:
        ConfigError: an `id` for several models, a "*" that stands for none, an id that becomes too long.
    """
    models: list[ModelConfig] = []
    for number, model in enumerate(study.models):
        where = f"models[{number}]"
        if isinstance(model, PromptModel):
            models += _prompted(model, study, where)
        elif isinstance(model, TrainedModel):
            models += _trained(model, study, where)
        else:
            models.append(model)
    return models


def _prompted(model: PromptModel, study: Study, where: str) -> list[ModelConfig]:
    prompts = _written_out(model.prompt, [p.id for p in study.prompts], f"{where}.prompt", "the study has no prompts")
    endpoints = _written_out(
        model.endpoint, [e.id for e in study.endpoints], f"{where}.endpoint", "the study has no endpoints"
    )
    _one_id(model.id, len(prompts) * len(endpoints), where)
    tasks = {prompt.id: prompt.task for prompt in study.prompts}
    return [
        _checked(
            model,
            where,
            id=model.id or f"{prompt}/{endpoint}",
            prompt=prompt,
            endpoint=endpoint,
            task=model.task or tasks.get(prompt),
        )
        for prompt in prompts
        for endpoint in endpoints
    ]


def _trained(model: TrainedModel, study: Study, where: str) -> list[ModelConfig]:
    known = [d.id for d in study.datasets if d.task == "classification"]
    datasets = _written_out(model.dataset, known, f"{where}.dataset", "the study has no classification datasets")
    _one_id(model.id, len(datasets), where)
    return [_checked(model, where, id=model.id or f"{model.recipe}/{dataset}", dataset=dataset) for dataset in datasets]


def watched_models(study: Study) -> list[PromptModel]:
    """The prompted models of a study.

    Raises:
        ConfigError: it has none.
    """
    # What is answered is compared as it was read: a calibration would take out a change that is the same everywhere.
    models = [
        model.model_copy(update={"calibration": "none", "ask": None})
        for model in expand_models(study)
        if isinstance(model, PromptModel)
    ]
    if not models:
        raise ConfigError(f"study {study.name} has no prompted model to watch; add one of kind prompt")
    return models


def prompt_candidates(study: Study, labels: Sequence[str] | None, prompts: Sequence[str] | None) -> list[PromptModel]:
    """The study's prompted models that answer with labels: of the prompts that are asked for, else those that answer
    with the target's labels where these are known.

    Raises:
        ConfigError: no such prompt, or no candidate.
    """
    known = {p.id: p for p in study.prompts}
    for name in prompts or ():
        if name not in known:
            raise ConfigError(
                f"no prompt {name!r} in study {study.name}{did_you_mean(name, known)}; there are: {listed(known)}"
            )
    prompted = [_asked_in_full(m) for m in expand_models(study) if isinstance(m, PromptModel)]
    found = [m for m in prompted if known[str(m.prompt)].answer == "label" and (not prompts or m.prompt in prompts)]
    if labels and not prompts:
        found = [m for m in found if set(known[str(m.prompt)].verbalizer) == set(labels)]
    if not found:
        wanted = f" that answer with {', '.join(labels)}" if labels else ""
        raise ConfigError(
            f"study {study.name} has no prompted models{wanted} to choose from; "
            "add `{kind: prompt, prompt: '*', endpoint: '*'}` to its models, and prompts with the target's labels"
        )
    return found


def _written_out(names: str | Sequence[str], known: list[str], where: str, none: str) -> list[str]:
    listed = [names] if isinstance(names, str) else list(names)
    written = list(dict.fromkeys(name for entry in listed for name in (known if entry == "*" else [entry])))
    if not written:
        raise ConfigError(
            f"{where}: {none}" if "*" in listed else f"{where}: the list is empty; name one, or write '*'"
        )
    return written


def _one_id(id_: str | None, count: int, where: str) -> None:
    if id_ is not None and count > 1:
        raise ConfigError(
            f"{where}.id: {id_!r} would name {count} models; leave it out, and each gets a name of its own"
        )


def _checked(model: PromptModel | TrainedModel, where: str, **changed: object) -> ModelConfig:
    try:
        return type(model).model_validate({**model.model_dump(), **changed})
    except ValidationError as exc:
        raise ConfigError(
            f"{where}: the name {changed['id']!r} that it would get is no id (at most 100 characters); set `id`"
        ) from exc


def chosen_models(study: Study, patterns: Sequence[str] | None) -> list[ModelConfig]:
    """The models of these ids or patterns, in the study's order, to be asked about other texts than the pool's.

    Raises:
        ConfigError: one that names no model.
    """
    models = [_asked_in_full(m) if isinstance(m, PromptModel) else m for m in expand_models(study)]
    ids = [str(m.id) for m in models]
    for pattern in patterns or ():
        if not any(fnmatchcase(id_, pattern) for id_ in ids):
            raise ConfigError(
                f"no model {pattern!r} in study {study.name}{did_you_mean(pattern, ids)}; there are: {listed(ids)}"
            )
    return [m for m in models if not patterns or any(fnmatchcase(str(m.id), p) for p in patterns)]


def _asked_in_full(model: PromptModel) -> PromptModel:
    """`ask` is of the study's pool, not of texts whose answers are what is wanted."""
    return model.model_copy(update={"ask": None})
