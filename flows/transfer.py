"""Transfer: from which dataset should fine-tuning on a few rows start, and which embedding predicts it?"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect import flow

from flows.ingest import ingest
from flows.run_names import run_name
from flows.session import Session, open_session, settle
from fute.config import TransferConfig
from fute.errors import ConfigError
from fute.load_study import load_study
from fute.train.transfer import source_recipe
from tasks.embed import train_source_model
from tasks.run import Run
from tasks.selection import SelectionRow, read_report, select_sources
from tasks.study import DatasetRef, StudyParts
from tasks.transfer import SourceRef, TargetScores, transfer_to_target

log = logging.getLogger("flows.transfer")


@flow(name="transfer", flow_run_name=run_name)
def transfer(study: str, run: Run | None = None) -> Any:
    """Fine-tune from each source of a study to each of its targets, and hold the embeddings of the store against it.

    What is in the store is not done again; a source or a target that fails stops no other. The embeddings of targets
    are made of their whole training splits, so they see more labels than the fine-tuning with its few rows.

    Args:
        study: path of the study file; its section `transfer` says what is measured.
        run: the run that this stage belongs to; none when it runs alone.
    """
    config = load_study(study).transfer
    if config is None:
        raise ConfigError(f"{study} has no section transfer; write `transfer: {{}}` to measure all of its datasets")
    with open_session(study, "transfer", run) as session:
        ingested = ingest(study, session.run)
        parts = StudyParts(surrogate=session.study.surrogate, datasets={d.id: d for d in ingested.datasets})
        with session.stage("train_sources"):
            sources = train_sources(session, config, parts)
        targets = chosen(config.targets, ingested.datasets)
        with session.stage("transfer"):
            found = transfer_to_all(session, config, parts, sources, targets)
        families = {d.id: d.family for d in session.study.datasets}
        session.report = select_sources(session.run, families, targets, sources, found, config)
        track(session, session.report, found)
        return session.end_state(session.report)


def chosen(names: str | list[str], datasets: Iterable[DatasetRef]) -> list[DatasetRef]:
    """The datasets that a list, or "*" for all classification datasets, names."""
    listed = [names] if isinstance(names, str) else names
    return [d for d in datasets if d.id in listed or ("*" in listed and d.task == "classification")]


def train_sources(session: Session, config: TransferConfig, parts: StudyParts) -> list[SourceRef]:
    """A source model for each source dataset; one that cannot be trained is no candidate."""
    datasets = chosen(config.sources, parts.datasets.values())
    recipes = [source_recipe(config, d.id) for d in datasets]
    trained, failures = settle(
        [(str(r.id), train_source_model.submit(session.run, r, parts)) for r in recipes], "train"
    )
    session.failures += failures
    log.info(
        "transfer: %d source models (%d from the store), %d failed",
        len(trained),
        sum(t.reused for t in trained),
        len(failures),
    )
    models = {t.id: t for t in trained}
    return [SourceRef(dataset=d, model=models.get(str(r.id))) for d, r in zip(datasets, recipes, strict=True)]


def transfer_to_all(
    session: Session, config: TransferConfig, parts: StudyParts, sources: list[SourceRef], targets: list[DatasetRef]
) -> list[TargetScores]:
    """Every target in every draw; the first draw of all targets first, for a run that is killed half way."""
    futures = [
        (f"{target.id}, draw {seed}", transfer_to_target.submit(session.run, config, parts, target, sources, seed))
        for seed in range(config.seeds)
        for target in targets
    ]
    found, failures = settle(futures, "transfer")
    session.failures += failures
    session.failures += [failure for scores in found for failure in scores.failures]
    log.info(
        "transfer: %d scores (%d from the store), %d failed",
        sum(len(f.scores) for f in found),
        sum(f.reused for f in found),
        len(session.failures),
    )
    return found


def track(session: Session, path: str, found: list[TargetScores]) -> None:
    scores = {"scores": float(sum(len(f.scores) for f in found))}
    session.tracker.metrics(session.run.run_id, {**scores, **metrics_of(read_report(path).selection)})
    session.tracker.artifact(session.run.run_id, Path(path))


def metrics_of(rows: list[SelectionRow]) -> dict[str, float]:
    """Each measure under a name of its own, with the space where a study has several spaces of one method."""
    spaces = {method: {row.space for row in rows if row.method == method} for method in {row.method for row in rows}}
    measured = {}
    for row in rows:
        method = row.method if len(spaces[row.method]) == 1 else f"{row.method}_{str(row.space)[:8]}"
        for name in ("best_rank", "ndcg", "ndcg_relative", "regret", "pick_gain"):
            if (value := getattr(row, name)) is not None:
                measured[f"{method}_{row.sources_as or 'none'}_{row.candidates}_{name}"] = value
    return measured
