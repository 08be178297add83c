"""Match: a study's models answer the texts of a target, and how often each is right is counted or inferred."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.embed import ask_models
from flows.run_names import run_name
from flows.select_prompts import ingest_all
from flows.session import open_session
from fute.config import SelectConfig, TrainedModel
from fute.expand import chosen_models
from tasks.endpoints import check_keys
from tasks.ingest import record_prompts
from tasks.match_asked import judge_answers, texts_of
from tasks.match_target import Columns
from tasks.study import parts_of


@flow(name="match", flow_run_name=run_name)
def match(
    study: str,
    target: str,
    columns: Columns | None = None,
    models: list[str] | None = None,
    rows: int = 200,
    labels: int = 0,
    labels_file: str = "",
    classes: list[str] | None = None,
    base_urls: dict[str, str] | None = None,
) -> Any:
    """Ask a study's models about a target's texts. Every answer is in the store as it comes: none is paid for twice.

    Args:
        study: path of the study file.
        target: id of a dataset of the study, or a file.
        columns: of a file.
        models: ids of the models to ask, or patterns such as `prompt/*`; none: all.
        rows: texts at most.
        labels: texts to have labelled by a person, where the target has no labels.
        labels_file: the CSV file in which they are.
        classes: look only at models that answer these; none: at all.
        base_urls: other addresses for endpoints, by their id: the same services, moved.
    """
    with open_session(study, "match", None, base_urls) as session:
        chosen = chosen_models(session.study, models)
        check_keys(session.study)
        sources = [str(m.dataset) for m in chosen if isinstance(m, TrainedModel)]
        refs = ingest_all(session, SelectConfig(references=[]), target, sources)
        parts = parts_of(session.study, refs.values())
        record_prompts(session.run, session.study.prompts)
        path = target if target in refs else str(session.study.path(target))
        texts = texts_of(session.run, path, refs.get(target), columns or Columns(), rows)
        able = [m for m in chosen if not isinstance(m, TrainedModel) or m.dataset in parts.datasets]
        outputs, _ = ask_models(session, able, parts, texts.pool)
        with session.stage("match"):
            session.report = judge_answers(session.run, texts, outputs, labels_file, labels, classes or [])
        return session.end_state(session.report)
