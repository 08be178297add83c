"""What a run would do: `fute check`. It reads, and writes nothing."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel

from fute.config import DatasetConfig, PromptModel, Study, TrainedModel
from fute.data.ingest import dataset_fingerprint, ingest
from fute.data.pool import build_pool
from fute.expand import expand_models
from fute.models.prompted import missing_calls
from fute.space import embedding_id, space_id
from fute.surrogate.load import surrogate_identity
from fute.types import Dataset, Kind, Pool
from storage.responses import ResponseStore
from storage.store import Store
from storage.vectors import VectorStore
from tasks.embed import open_model, trained_ref
from tasks.endpoints import prompted_model
from tasks.ingest import DatasetRef
from tasks.run import Run
from tasks.study import StudyParts

DONE, TODO = "in the store", "to do"


class Step(BaseModel):
    stage: str
    subject: str
    state: str
    calls: int | None = None
    """LLM calls, for prompted models."""


class Plan(BaseModel):
    steps: list[Step]

    def summary(self) -> str:
        todo = Counter(step.stage for step in self.steps if step.state == TODO)
        calls = sum(step.calls or 0 for step in self.steps)
        if not todo and not calls:
            return "Everything is in the store: a run would do no work and make no LLM calls."
        work = ", ".join(f"{n} {stage}" for stage, n in todo.items())
        return f"A run would do: {work or 'nothing new'}. LLM calls: {calls}."


def plan(study: Study) -> Plan:
    """Compare a study with its store, item by item."""
    run = Run(study=study.name, store=str(study.path(study.store)), base_dir=str(study.base_dir), seed=study.seed)
    store = run.open_store()
    vectors = VectorStore(store)
    ledger = ResponseStore(store.root / "responses")
    steps: list[Step] = []

    refs: dict[str, DatasetRef] = {}
    for config in study.datasets:
        ref = f"{config.id}@{dataset_fingerprint(config, run.folder, run.seed)}"
        known = store.has_dataset(ref)
        refs[config.id] = DatasetRef(id=config.id, ref=ref, task=config.task, reused=known)
        steps.append(Step(stage="ingest", subject=config.id, state=DONE if known else TODO))

    pool = planned_pool(study, run, store, refs)
    pool_known = store.pool_path(pool.id).is_file()
    steps.append(Step(stage="pool", subject=f"{pool.id} ({len(pool)} rows)", state=DONE if pool_known else TODO))

    identity = surrogate_identity(study.surrogate, run.folder)
    spaces = {m.method: space_id(identity, m, pool.id, run.seed) for m in study.methods}
    parts = StudyParts(
        surrogate=study.surrogate,
        datasets=refs,
        endpoints={e.id: e for e in study.endpoints},
        prompts={p.id: p for p in study.prompts},
    )

    def embedded(kind: Kind, subject: str, fingerprint: str | None) -> list[Step]:
        found = []
        for method, space in spaces.items():
            known = fingerprint is not None and vectors.has(
                space, kind, embedding_id(space, kind, subject, fingerprint)
            )
            found.append(Step(stage="embed", subject=f"{subject} [{method}]", state=DONE if known else TODO))
        return found

    embeddings = [s for d in refs.values() for s in embedded("dataset", d.id, d.ref.rpartition("@")[2])]
    for model in expand_models(study):
        model_id, calls = str(model.id), None
        if isinstance(model, TrainedModel):
            ref = trained_ref(run, model, parts)
            steps.append(Step(stage="train", subject=model_id, state=DONE if store.has_model(ref) else TODO))
        elif isinstance(model, PromptModel):
            prompted = prompted_model(run, model, parts, with_key=False)
            ref = f"{model_id}@{prompted.fingerprint}"
            calls = 0 if store.has_outputs(pool.id, ref) else missing_calls(prompted, pool.inputs, ledger)
        else:
            ref = f"{model_id}@{open_model(run, model, parts).fingerprint}"
        known = store.has_outputs(pool.id, ref)
        steps.append(Step(stage="outputs", subject=model_id, state=DONE if known else TODO, calls=calls))
        embeddings += embedded("model", model_id, ref.rpartition("@")[2])
    return Plan(steps=steps + embeddings)


def planned_pool(study: Study, run: Run, store: Store, refs: dict[str, DatasetRef]) -> Pool:
    """The pool as a run would build it, in memory."""
    if study.pool.reuse is not None:
        return store.pool(study.pool.reuse)

    def dataset(config: DatasetConfig) -> Dataset:
        ref = refs[config.id]
        return store.dataset(ref.ref) if ref.reused else ingest(config, run.folder, run.seed)

    evaluated = [dataset(d) for d in study.datasets] if study.pool.exclude_evaluated else []
    return build_pool(study.pool, run.folder, run.seed, evaluated)
