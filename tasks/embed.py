"""Stage 3: train source models, ask every model once, and embed datasets and models."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fute.config import ModelConfig, PromptModel, TrainedModel
from fute.data.cautions import leaked
from fute.errors import FuteError
from fute.llm.endpoint import service_of
from fute.llm.providers import PROVIDERS
from fute.methods.embedder import Embedder
from fute.space import embedding_id
from fute.span_contexts import check_spans
from fute.surrogate.device import find_device
from fute.train.training import train
from fute.types import Kind, Outputs, TaskEmbedding
from storage.store import to_json
from storage.vectors import VectorStore
from tasks import resources
from tasks.engine import NO_CACHE, task
from tasks.models import open_model, trained_ref
from tasks.run import Failure, Run, handed_in
from tasks.study import DatasetRef, StudyParts
from tasks.surrogate import SpaceRef


class OutputsRef(BaseModel):
    """A model's outputs in the store."""

    id: str
    ref: str
    kind: str
    task: str | None
    pool: str
    reused: bool
    metrics: dict[str, float]


class EmbeddingRef(BaseModel):
    """An embedding in the store."""

    space: str
    subject: str
    kind: Kind
    fingerprint: str
    reused: bool
    metrics: dict[str, float]
    """Seconds, and what the method measured: losses, steps, share of the outputs' variance that is explained."""


class TrainedRef(BaseModel):
    """A trained source model in the store."""

    id: str
    ref: str
    reused: bool
    metrics: dict[str, float]


@task(cache_policy=NO_CACHE, task_run_name="train-{config.id}")
@handed_in
def train_source_model(run: Run, config: TrainedModel, parts: StudyParts) -> TrainedRef:
    """Train a source model on an ingested dataset, and keep it with its held-out score."""
    store = run.open_store()
    ref = trained_ref(run, config, parts)
    dataset = parts.datasets[str(config.dataset)]
    metrics: dict[str, float] = {}

    def fill(folder: Path) -> Mapping[str, Any]:
        known = store.dataset(dataset.ref)
        with resources.compute_lock:
            result = train(
                config,
                known,
                folder,
                base_dir=run.folder,
                surrogate_config=parts.surrogate,
                seed=run.seed,
                features_of=partial(resources.features, store),
            )
        metrics.update({f"train_{name}": float(value) for name, value in result.metrics.items()})
        metrics["seconds_train"] = result.seconds
        named = "accuracy, leaked" if leaked(known.report, result.held_out) else "accuracy"
        return {"score": result.score, "score_name": named, "majority": result.majority}

    row = {
        "ref": ref,
        "id": config.id,
        "fingerprint": ref.rpartition("@")[2],
        "kind": f"trained {config.recipe}",
        "task": config.dataset,
        "settings": config.model_dump_json(),
    }
    reused = store.has_model(ref, trained=True)
    if not reused:
        store.put_model(row, run.stamp, fill)
    return TrainedRef(id=str(config.id), ref=ref, reused=reused, metrics=metrics)


@task(cache_policy=NO_CACHE, task_run_name="outputs-{config.id}")
@handed_in
def query_model(run: Run, config: ModelConfig, parts: StudyParts, pool: str) -> OutputsRef:
    """Ask a model for its outputs on the pool, once; they are stored before anything is learned from them."""
    store = run.open_store()
    started = time.perf_counter()
    model = open_model(run, config, parts)
    ref = f"{model.id}@{model.fingerprint}"
    kind = f"trained {config.recipe}" if isinstance(config, TrainedModel) else config.kind
    task_of = str(config.dataset) if isinstance(config, TrainedModel) else config.task
    metrics: dict[str, float] = {}
    reused = store.has_outputs(pool, ref)
    if not reused:
        inputs = store.pool(pool).inputs
        if isinstance(config, PromptModel) and PROVIDERS[parts.endpoints[str(config.endpoint)].api].over_http:
            # It waits for the network: others may compute meanwhile.
            with resources.answers_handed_in(run):
                outputs = model.outputs(inputs)
        else:
            with resources.compute_lock:
                outputs = model.outputs(inputs)
        check_spans(outputs.validate(len(inputs)), inputs)
        store.put_outputs(pool, ref, outputs, run.stamp)
        metrics = {k: float(v) for k, v in outputs.details.items() if isinstance(v, int | float)}
        metrics["seconds_outputs"] = time.perf_counter() - started
    row = {
        "ref": ref,
        "id": model.id,
        "fingerprint": model.fingerprint,
        "kind": kind,
        "task": task_of,
        "settings": to_json(config.model_dump(mode="json") | _asked_at(config, parts)),
    }
    store.put_model(row, run.stamp)
    card = store.model_card(ref)
    if card["score"] is not None:
        metrics |= {"score": card["score"], "majority": card["majority"]}
    return OutputsRef(id=model.id, ref=ref, kind=kind, task=task_of, pool=pool, reused=reused, metrics=metrics)


def _asked_at(config: ModelConfig, parts: StudyParts) -> dict[str, str]:
    """What the answers of a prompted model carry, so that SQL finds them: an endpoint's name is the study's own."""
    if not isinstance(config, PromptModel):
        return {}
    endpoint = parts.endpoints[str(config.endpoint)]
    return {"service": service_of(endpoint), "llm": endpoint.model}


@task(cache_policy=NO_CACHE, task_run_name="dte-{dataset.id}-{space.method.method}")
@handed_in
def embed_dataset(run: Run, space: SpaceRef, dataset: DatasetRef) -> EmbeddingRef:
    """DTE of one dataset in one space."""
    store = run.open_store()
    subject = {
        "kind": "dataset",
        "subject": dataset.id,
        "subject_fingerprint": dataset.ref.rpartition("@")[2],
        "subject_kind": dataset.task,
        "task": dataset.id,
    }
    return _embed(run, space, subject, lambda embedder: embedder.dataset(store.dataset(dataset.ref)))


@task(cache_policy=NO_CACHE, task_run_name="mte-{model.id}-{space.method.method}")
@handed_in
def embed_model(run: Run, space: SpaceRef, model: OutputsRef) -> EmbeddingRef:
    """MTE of one model in one space, from its stored outputs."""
    store = run.open_store()
    return _embed(run, space, _subject(model), lambda embedder: embedder.model(store.outputs(space.pool, model.ref)))


@task(cache_policy=NO_CACHE, task_run_name="mte-{models[0].id}-and-others-{space.method.method}")
@handed_in
def embed_models(run: Run, space: SpaceRef, models: list[OutputsRef]) -> list[EmbeddingRef | Failure]:
    """MTEs of several models in one space, made together; for each its embedding, or why it has none."""
    store = run.open_store()
    vectors = VectorStore(store)
    results: dict[str, EmbeddingRef | Failure] = {}
    new: list[tuple[OutputsRef, Outputs]] = []
    for model in models:
        key = _key(space, _subject(model))
        try:
            if vectors.has(space.id, "model", key):
                results[model.ref] = _ref(space, _subject(model), {}, reused=True)
            else:
                new.append((model, store.outputs(space.pool, model.ref)))
        except FuteError as exc:
            results[model.ref] = _failure(space, model, exc)
    if new:
        started = time.perf_counter()
        embedder = resources.space(run, space.id, space.surrogate, space.method, space.pool)
        with resources.compute_lock:
            made = embedder.models([outputs for _, outputs in new])
        seconds = (time.perf_counter() - started) / len(new)
        for (model, _), embedding in zip(new, made, strict=True):
            if isinstance(embedding, FuteError):
                results[model.ref] = _failure(space, model, embedding)
                continue
            row = {**space.columns(), **_subject(model), "fingerprint": _key(space, _subject(model))}
            vectors.put(row, embedding, run.stamp)
            results[model.ref] = _ref(space, _subject(model), {**embedding.metrics, "seconds": seconds}, reused=False)
    return [results[model.ref] for model in models]


def _failure(space: SpaceRef, model: OutputsRef, error: FuteError) -> Failure:
    return Failure(subject=f"{model.id} [{space.method.method}]", stage="embed", reason=str(error))


def models_at_once(space: SpaceRef) -> int:
    """Models of one embed_models task; 1: a task for each (embed_model)."""
    if not space.method.takes_groups:
        return 1
    return space.method.group_size(find_device(space.surrogate.device).type)


def _subject(model: OutputsRef) -> dict[str, Any]:
    return {
        "kind": "model",
        "subject": model.id,
        "subject_fingerprint": model.ref.rpartition("@")[2],
        "subject_kind": model.kind,
        "task": model.task,
    }


def _key(space: SpaceRef, subject: dict[str, Any]) -> str:
    return embedding_id(space.id, subject["kind"], subject["subject"], subject["subject_fingerprint"])


def _ref(space: SpaceRef, subject: dict[str, Any], metrics: dict[str, float], *, reused: bool) -> EmbeddingRef:
    return EmbeddingRef(
        space=space.id,
        subject=subject["subject"],
        kind=subject["kind"],
        fingerprint=_key(space, subject),
        reused=reused,
        metrics=metrics,
    )


def _embed(
    run: Run, space: SpaceRef, subject: dict[str, Any], make: Callable[[Embedder], TaskEmbedding]
) -> EmbeddingRef:
    vectors = VectorStore(run.open_store())
    key = _key(space, subject)
    started = time.perf_counter()
    reused = vectors.has(space.id, subject["kind"], key)
    metrics: dict[str, float] = {}
    if not reused:
        embedder = resources.space(run, space.id, space.surrogate, space.method, space.pool)
        with resources.compute_lock:
            embedding = make(embedder)
        vectors.put({**space.columns(), **subject, "fingerprint": key}, embedding, run.stamp)
        metrics = dict(embedding.metrics)
    return _ref(space, subject, {**metrics, "seconds": time.perf_counter() - started}, reused=reused)
