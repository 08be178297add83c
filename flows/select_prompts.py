"""Selection of prompts: which prompt on which LLM fits a target without labels?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from prefect import flow

from flows.embed import ask_models
from flows.run_names import run_name
from flows.session import Session, open_session, settle
from fute.config import ModelConfig, PromptModel, SelectConfig, Study, TrainedModel
from fute.did_you_mean import did_you_mean, listed
from fute.errors import ConfigError, DataError
from fute.expand import expand_models, prompt_candidates
from tasks.endpoints import check_keys
from tasks.ingest import ingest_dataset, record_prompts
from tasks.run import Failure
from tasks.select import PromptSelection, TargetRef, choose_prompts, target_of_dataset, target_of_file
from tasks.study import DatasetRef, parts_of

log = logging.getLogger("flows.select_prompts")


@flow(name="select-prompts", flow_run_name=run_name)
def select_prompts(
    study: str,
    target: str,
    text: str = "text",
    text_pair: str | None = None,
    prompts: list[str] | None = None,
    share: float | None = None,
    base_urls: dict[str, str] | None = None,
) -> Any:
    """Ask the study's prompts about a target's texts, and rank them without looking at a label.

    Args:
        study: path of the study file; its section `select` says how to choose.
        target: id of a dataset of the study (its labels are not looked at), or a Parquet, CSV or JSONL file.
        text: column of a file's texts.
        text_pair: column of a file's second texts, for prompts that ask about pairs.
        prompts: ids of the prompts to choose from; none: all that answer with the target's labels.
        share: of the calls that asking everything takes, made at most; none: what the study says.
        base_urls: other addresses for endpoints, by their id: the same services, moved.
    """
    with open_session(study, "select-prompts", None, base_urls) as session:
        config = session.study.select.with_share(share)
        prompt_candidates(session.study, None, prompts)  # none at all is told before anything is read
        trusted = trusted_models(session.study, config.trusted)
        check_keys(session.study)
        refs = ingest_all(session, config, target, [str(m.dataset) for m in trusted if isinstance(m, TrainedModel)])
        labels = session.run.open_store().pull().dataset(refs[target].ref).label_names if target in refs else None
        models = prompt_candidates(session.study, labels, prompts)
        session.failures += left_out(session.study, models, target, labels, prompts)
        parts = parts_of(session.study, refs.values())
        texts: TargetRef
        if target in refs:
            texts = target_of_dataset(session.run, target, refs[target], config.rows)
        else:
            texts = target_of_file(session.run, str(session.study.path(target)), text, text_pair, config.rows)
        record_prompts(session.run, [p for p in session.study.prompts if p.id in {m.prompt for m in models}])
        references = [ref for name, ref in refs.items() if name != target and is_reference(name, config)]
        trained_on = parts.datasets  # less those that could not be read
        trusted = [m for m in trusted if not isinstance(m, TrainedModel) or m.dataset in trained_on]
        answers, _ = ask_models(session, trusted, parts, texts.pool)
        with session.stage("select"):
            selection = choose_prompts(session.run, config, models, parts, texts, references, answers)
        session.failures += selection.failures
        session.report = selection.report
        track(session, selection)
        log.info(
            "select: %s is expected to do best on %s; %d calls, %d tokens",
            selection.choices[0].id,
            texts.name,
            sum(c.calls for c in selection.choices),
            sum(c.tokens for c in selection.choices),
        )
        return session.end_state(selection)


def left_out(
    study: Study, chosen: Sequence[PromptModel], target: str, labels: Sequence[str] | None, prompts: list[str] | None
) -> list[Failure]:
    """Prompted models written for the target that answer with other labels than it has, most likely by a slip. Of those
    written for no target in particular a warning tells, where they share a label."""
    if not labels or prompts:
        return []
    known = {p.id: p for p in study.prompts}
    ids = {m.id for m in chosen}
    failures = []
    for model in expand_models(study):
        if isinstance(model, PromptModel) and model.task == target and model.id not in ids:
            answers = ", ".join(known[str(model.prompt)].verbalizer) or "in free text"
            reason = f"not asked: prompt {model.prompt} is for {target} but answers {answers}"
            reason += f"; {target} has {', '.join(labels)}"
            failures.append(Failure(subject=str(model.id), stage="select", reason=reason))
        elif isinstance(model, PromptModel) and model.task is None and model.id not in ids:
            names = known[str(model.prompt)].verbalizer
            if {name.casefold() for name in names} & {label.casefold() for label in labels}:
                log.warning(
                    "select: %s was not asked: it answers %s, and %s has %s",
                    *(model.id, ", ".join(names), target, ", ".join(labels)),
                )
    return failures


def trusted_models(study: Study, names: Sequence[str]) -> list[ModelConfig]:
    """Models of the study that are no prompts, by id.

    Raises:
        ConfigError: no such model, or a prompted one.
    """
    known = {str(m.id): m for m in expand_models(study)}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"select.trusted: no model {name!r} in study {study.name}{did_you_mean(name, known)}; "
                f"there are: {listed(known)}"
            )
        if isinstance(known[name], PromptModel):
            raise ConfigError(
                f"select.trusted: {name} is a prompted LLM, which is a candidate and no judge; "
                "name models of other kinds"
            )
    return [known[name] for name in names]


def is_reference(dataset: str, config: SelectConfig) -> bool:
    names = [config.references] if isinstance(config.references, str) else config.references
    return "*" in names or dataset in names


def ingest_all(session: Session, config: SelectConfig, target: str, sources: Sequence[str]) -> dict[str, DatasetRef]:
    """The references, the target where it is a dataset of the study, and what trusted models are trained on."""
    names = [config.references] if isinstance(config.references, str) else config.references
    known = [d.id for d in session.study.datasets]
    for name in names:
        if name != "*" and name not in known:
            raise ConfigError(
                f"select.references: {name!r} is none of the study's datasets"
                f"{did_you_mean(name, known)}; there are: {listed(known)}"
            )
    wanted = [d for d in session.study.datasets if d.id == target or d.id in sources or is_reference(d.id, config)]
    found, failures = settle([(d.id, ingest_dataset.submit(session.run, d)) for d in wanted], "ingest")
    if any(f.subject == target for f in failures):
        raise DataError(next(f.reason for f in failures if f.subject == target))
    session.failures += failures  # a reference that cannot be read leaves the others
    return {ref.id: ref for ref in found}


def track(session: Session, selection: PromptSelection) -> None:
    """The ranking as an MLflow table, and what it cost."""
    run_id = session.run.run_id
    session.tracker.metrics(
        run_id,
        {
            "candidates": len(selection.choices),
            "share_of_calls": selection.share,
            "llm_calls": sum(c.calls for c in selection.choices),
            "llm_tokens": sum(c.tokens for c in selection.choices),
            **({} if (found := selection.choices[0].expected_accuracy) is None else {"expected_accuracy": found}),
        },
    )
    session.tracker.text(run_id, selection.model_dump_json(indent=2), "selection.json")
