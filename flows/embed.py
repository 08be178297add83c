"""Embed: train source models, ask every model once, and embed datasets and models in every space."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.futures import PrefectFuture
from pydantic import BaseModel

from flows.ingest import Ingested, ingest
from flows.run_names import run_name
from flows.session import Session, open_session, settle
from flows.surrogate import surrogate
from fute.config import ModelConfig, TrainedModel
from fute.expand import expand_models
from storage.retirements import bring_back
from tasks.embed import (
    EmbeddingRef,
    OutputsRef,
    TrainedRef,
    embed_dataset,
    embed_model,
    embed_models,
    models_at_once,
    query_model,
    train_source_model,
)
from tasks.endpoints import check_keys
from tasks.fold import fold_embeddings
from tasks.ingest import record_prompts
from tasks.run import Failure, Run
from tasks.study import StudyParts, parts_of
from tasks.surrogate import SpaceRef

log = logging.getLogger("flows.embed")


class Embedded(BaseModel):
    embeddings: list[EmbeddingRef]
    failures: list[Failure]


@flow(name="embed", flow_run_name=run_name)
def embed(
    study: str,
    run: Run | None = None,
    ingested: Ingested | None = None,
    spaces: list[SpaceRef] | None = None,
    base_urls: dict[str, str] | None = None,
    go_on: bool = False,
) -> Any:
    """Embed all datasets and models of a study. A model that fails stops no other; it is listed with its reason.

    Args:
        study: path of the study file.
        run: the run that this stage belongs to; none when it runs alone.
        ingested: what the ingest stage left; none when this stage runs alone.
        spaces: what the surrogate stage left; none when this stage runs alone.
        base_urls: other addresses for endpoints, by their id: the same services, moved.
        go_on: ask about all inputs where the first many answers of a prompted model are the same.
    """
    with open_session(study, "embed", run, base_urls) as session:
        if go_on:
            session.run = session.run.model_copy(update={"go_on": True})
        check_keys(session.study)
        ingested = ingested or ingest(study, session.run)
        spaces = spaces or surrogate(study, session.run, ingested)
        parts = parts_of(session.study, ingested.datasets)
        if session.study.prompts:
            record_prompts(session.run, session.study.prompts)
        with session.stage("outputs"):
            outputs, trained = ask_models(session, expand_models(session.study), parts, ingested.pool.id)
        with session.stage("embed"):
            for s in spaces:
                if ingested.datasets and not s.method.takes_datasets:
                    log.info("%s: models only; a dataset has no answers", s.method.method)
            futures = [
                (f"{d.id} [{s.method.method}]", embed_dataset.submit(session.run, s, d))
                for s in spaces
                if s.method.takes_datasets
                for d in ingested.datasets
            ]
            groups = []
            for s in spaces:
                size = models_at_once(s)
                if size == 1:
                    futures += [(f"{o.id} [{s.method.method}]", embed_model.submit(session.run, s, o)) for o in outputs]
                    continue
                for part in (outputs[i : i + size] for i in range(0, len(outputs), size)):
                    subjects = [f"{o.id} [{s.method.method}]" for o in part]
                    groups.append((subjects, embed_models.submit(session.run, s, part)))
            embeddings, failures = settle(futures, "embed")
            more, failed = settle_groups(groups, "embed")
            embeddings += more
            session.failures += failures + failed
            bring_back(session.run.open_store(), [(e.kind, e.subject) for e in embeddings], session.run.stamp)
            fold_embeddings(session.run, [s.id for s in spaces])
        track_models(session, outputs, trained, embeddings, spaces)
        log.info(
            "embed: %d embeddings (%d from the store), %d failed",
            len(embeddings),
            sum(e.reused for e in embeddings),
            len(session.failures),
        )
        return session.end_state(Embedded(embeddings=embeddings, failures=session.failures))


def settle_groups(
    groups: Sequence[tuple[list[str], PrefectFuture[Any]]], stage: str
) -> tuple[list[Any], list[Failure]]:
    """Wait for tasks that did several subjects each; where a task failed as a whole, all of its subjects did."""
    results: list[Any] = []
    failures: list[Failure] = []
    for subjects, future in groups:
        done, failed = settle([(", ".join(subjects), future)], stage)
        failures += [Failure(subject=s, stage=stage, reason=f.reason) for f in failed for s in subjects]
        for each in (each for group in done for each in group):
            if isinstance(each, Failure):
                log.warning("%s of %s failed: %s", stage, each.subject, each.reason)
                failures.append(each)
            else:
                results.append(each)
    return results, failures


def ask_models(
    session: Session, models: Sequence[ModelConfig], parts: StudyParts, pool: str
) -> tuple[list[OutputsRef], list[TrainedRef]]:
    """Train what is to be trained, then ask every model about a pool. One that fails leaves the others."""
    to_train = [m for m in models if isinstance(m, TrainedModel)]
    trained = [(str(m.id), train_source_model.submit(session.run, m, parts)) for m in to_train]
    ready, failures = settle(trained, "train")
    session.failures += failures
    if to_train:
        log.info("train: %d source models ready, %d failed", len(to_train) - len(failures), len(failures))
    untrained = {f.subject for f in failures}
    asked = [(str(m.id), query_model.submit(session.run, m, parts, pool)) for m in models if m.id not in untrained]
    outputs, failures = settle(asked, "outputs")
    session.failures += failures
    log.info(
        "outputs: %d models (%d from the store), %d failed", len(outputs), sum(o.reused for o in outputs), len(failures)
    )
    return outputs, ready


def track_models(
    session: Session,
    outputs: list[OutputsRef],
    trained: list[TrainedRef],
    embeddings: list[EmbeddingRef],
    spaces: list[SpaceRef],
) -> None:
    """A nested MLflow run for each model: what it is, what it scored, its losses, what asking and embedding it took."""
    run = session.run
    measured: dict[str, dict[str, float]] = {t.id: dict(t.metrics) for t in trained}
    methods = {s.id: s.method.method for s in spaces}
    for e in embeddings:
        if e.kind == "model":
            named = {f"{methods[e.space]}_{name}": value for name, value in e.metrics.items()}
            measured.setdefault(e.subject, {}).update(named)
    for output in outputs:
        child = session.tracker.start(
            output.id,
            parent=run.run_id,
            tags={"prefect.flow_run_id": run.flow_run_id, "subject": output.id, "model_ref": output.ref},
            params={"kind": output.kind, "task": output.task, "pool": output.pool, "reused": output.reused},
        )
        session.tracker.metrics(child, {**output.metrics, **measured.get(output.id, {})})
        session.tracker.end(child)
    totals = {
        f"llm_{name}": sum(o.metrics.get(name, 0.0) for o in outputs if o.kind == "prompt")
        for name in ("calls", "tokens_in", "tokens_out")
    }
    session.tracker.metrics(run.run_id, {"models": len(outputs), "embeddings": len(embeddings), **totals})
    for failure in session.failures:
        child = session.tracker.start(
            failure.subject,
            parent=run.run_id,
            tags={"prefect.flow_run_id": run.flow_run_id, "stage": failure.stage, "reason": failure.reason[:5000]},
        )
        session.tracker.end(child, failed=True)
