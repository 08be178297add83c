"""What a run would do: `fute check`. It reads, and writes nothing."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel

from fute.config import DatasetConfig, PromptModel, Study, TrainedModel
from fute.data.ingest import dataset_fingerprint, ingest
from fute.data.pool import build_pool
from fute.expand import expand_models
from fute.llm.budget import Spending, passed
from fute.space import embedding_id, space_id
from fute.surrogate.identity import surrogate_identity
from fute.types import Dataset, Kind, Pool
from storage.responses import ResponseStore
from storage.store import Store
from storage.vectors import VectorStore
from tasks.costs import Cost, CostEstimate, added
from tasks.embed import open_model, trained_ref
from tasks.endpoints import prompted_model
from tasks.ingest import DatasetRef
from tasks.run import Run
from tasks.study import parts_of

DONE, TODO = "in the store", "to do"


class Step(BaseModel):
    stage: str
    subject: str
    state: str
    calls: int | None = None
    """LLM calls, for prompted models."""
    cost: Cost | None = None
    """What they are likely to cost, for prompted models."""


class Plan(BaseModel):
    steps: list[Step]
    over_budget: list[str] = []
    """Limits that the calls are likely to reach."""

    @property
    def cost(self) -> Cost:
        """Of all steps together."""
        return added([step.cost for step in self.steps if step.cost is not None])

    def summary(self) -> str:
        todo = Counter(step.stage for step in self.steps if step.state == TODO)
        cost = self.cost
        if not todo and not cost.calls:
            return "Everything is in the store: a run would do no work and make no LLM calls."
        work = ", ".join(f"{n} {stage}" for stage, n in todo.items())
        lines = [f"A run would do: {work or 'nothing new'}. LLM calls: {cost.calls}{priced(cost)}."]
        if cost.calls:
            lines.append(f"Reckoned with {cost.basis}.")
        return "\n".join(lines + [f"warning: {warning}" for warning in self.over_budget])


def priced(cost: Cost) -> str:
    if not cost.calls:
        return ""
    usd = (
        "price not known"
        if cost.usd is None
        else f"about ${cost.usd:.2f}"
        if cost.usd >= 1
        else f"about ${cost.usd:.4f}"
    )
    return f", about {cost.tokens:,} tokens, {usd}"


def plan(study: Study) -> Plan:
    """Compare a study with its store, item by item."""
    run = Run(study=study.name, store=study.store_address, base_dir=str(study.base_dir), seed=study.seed)
    store = run.open_store().pull()
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
    spaces = {m.method: space_id(identity, m, pool.id, run.seed, run.folder) for m in study.methods}
    parts = parts_of(study, refs.values())

    def embedded(kind: Kind, subject: str, fingerprint: str | None) -> list[Step]:
        found = []
        for method, space in spaces.items():
            known = fingerprint is not None and vectors.has(
                space, kind, embedding_id(space, kind, subject, fingerprint)
            )
            found.append(Step(stage="embed", subject=f"{subject} [{method}]", state=DONE if known else TODO))
        return found

    embeddings = [s for d in refs.values() for s in embedded("dataset", d.id, d.ref.rpartition("@")[2])]
    estimate, costs = CostEstimate(store), Costs(study)
    for model in expand_models(study):
        model_id, cost = str(model.id), None
        if isinstance(model, TrainedModel):
            ref = trained_ref(run, model, parts)
            steps.append(Step(stage="train", subject=model_id, state=DONE if store.has_model(ref) else TODO))
        elif isinstance(model, PromptModel):
            prompted = prompted_model(run, model, parts, with_key=False)
            ref = f"{model_id}@{prompted.fingerprint}"
            endpoint = parts.endpoints[str(model.endpoint)]
            known = store.has_outputs(pool.id, ref)
            cost = Cost() if known else estimate.of(prompted, endpoint, pool.inputs, ledger)
            costs.add(endpoint.id, cost)
        else:
            ref = f"{model_id}@{open_model(run, model, parts).fingerprint}"
        known = store.has_outputs(pool.id, ref)
        calls = None if cost is None else cost.calls
        steps.append(Step(stage="outputs", subject=model_id, state=DONE if known else TODO, calls=calls, cost=cost))
        embeddings += embedded("model", model_id, ref.rpartition("@")[2])
    return Plan(steps=steps + embeddings, over_budget=costs.over_budget())


class Costs:
    """Summed by budget: the run's, and each endpoint's."""

    def __init__(self, study: Study) -> None:
        self._limits = {"the run": study.budget, **{f"endpoint {e.id}": e.budget for e in study.endpoints}}
        self._sums = dict.fromkeys(self._limits, Spending())

    def add(self, endpoint: str, cost: Cost) -> None:
        for name in ("the run", f"endpoint {endpoint}"):
            self._sums[name] += Spending(cost.calls, cost.tokens, cost.usd or 0.0)

    def over_budget(self) -> list[str]:
        """One line for each limit that is likely to be reached."""
        return [
            f"more than the budget of {name} allows ({field}: {getattr(limits, field):g}); a run would stop there, "
            "and another one would go on from it"
            for name, limits in self._limits.items()
            if (field := passed(limits, self._sums[name])) is not None
        ]


def planned_pool(study: Study, run: Run, store: Store, refs: dict[str, DatasetRef]) -> Pool:
    """The pool as a run would build it, in memory."""
    if study.pool.reuse is not None:
        return store.pool(study.pool.reuse)

    def dataset(config: DatasetConfig) -> Dataset:
        ref = refs[config.id]
        return store.dataset(ref.ref) if ref.reused else ingest(config, run.folder, run.seed)

    evaluated = [dataset(d) for d in study.datasets] if study.pool.exclude_evaluated else []
    return build_pool(study.pool, run.folder, run.seed, evaluated)
