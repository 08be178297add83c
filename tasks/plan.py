"""What a run would do: `fute check`. It reads, and writes nothing."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

from pydantic import BaseModel, Field

from fute.check_study import check_reused
from fute.config import DatasetConfig, EndpointConfig, Method, PromptModel, Study, TrainedModel
from fute.data.cautions import dataset_cautions, pool_cautions, rows_to_spare
from fute.data.ingest import ingest
from fute.data.pool import build_pool
from fute.errors import FuteError
from fute.expand import expand_models
from fute.llm.budget import Spending, passed
from fute.methods.crosscov.few_rows import tells_of
from fute.methods.python_config import PythonMethodConfig
from fute.methods.python_method import method_function
from fute.models.prompted import PromptedModel
from fute.models.trial import TRIED, trial_fault
from fute.space import embedding_id, space_id
from fute.surrogate.identity import surrogate_identity
from fute.surrogate.vectors import has_no_model
from fute.types import Dataset, Kind, Model, Pool, TextTable
from storage.accuracies import missing_accuracies
from storage.responses import ResponseStore
from storage.retirements import SubjectKey, retired
from storage.store import Store
from storage.vectors import VectorStore
from tasks.costs import Cost, CostEstimate, added
from tasks.endpoints import prompted_model
from tasks.models import open_model, trained_ref
from tasks.pool_change import pool_change
from tasks.ranking import ranking_key
from tasks.run import Run
from tasks.study import DatasetRef, dataset_ref, parts_of, prompt_row, surrogate_of

DONE, TODO, FAILS = "in the store", "to do", "would fail"
HERE = "answers here"
"""Of a model that is asked without calls."""


class Step(BaseModel):
    stage: str
    subject: str
    state: str
    calls: int | None = None
    """LLM calls, for prompted models."""
    cost: Cost | None = None
    """What they are likely to cost, for prompted models."""
    space: str | None = Field(default=None, exclude=True)
    """That a ranking is of."""


class Plan(BaseModel):
    steps: list[Step]
    over_budget: list[str] = []
    """Limits that the calls are likely to reach."""
    cautions: list[str] = []
    """What to know of datasets and pool before they are used."""
    faults: list[str] = []
    """What would fail, as a trial has shown."""

    @property
    def cost(self) -> Cost:
        """Of all steps together."""
        return added([step.cost for step in self.steps if step.cost is not None])

    def summary(self) -> str:
        known = [f"note: {caution}" for caution in self.cautions]
        todo = Counter(step.stage for step in self.steps if step.state not in (DONE, HERE))
        cost, here = self.cost, sum(step.state == HERE for step in self.steps)
        if here and not todo and not cost.calls:
            return "\n".join([*known, f"No LLM calls; {here} model{'s answer' if here > 1 else ' answers'} here."])
        if not todo and not cost.calls:
            return "\n".join([*known, "Everything is in the store: a run would do no work and make no LLM calls."])
        work = ", ".join(f"{n} {stage}" for stage, n in todo.items())
        lines = [*known, f"A run would do: {work or 'nothing new'}. LLM calls: {cost.calls}{priced(cost)}."]
        if cost.calls:
            lines.append(f"Estimated with {cost.basis}.")
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


CostOf = Callable[[PromptedModel, EndpointConfig, TextTable], Cost]


def plan(study: Study) -> Plan:
    """Compare a study with its store, item by item."""
    store = Store(study.store_address).pull()
    estimate, costs, ledger = CostEstimate(store), Costs(study), ResponseStore(store.root / "responses")

    def cost_of(model: PromptedModel, endpoint: EndpointConfig, inputs: TextTable) -> Cost:
        cost = estimate.of(model, endpoint, inputs, ledger)
        costs.add(endpoint.id, cost)
        return cost

    cautions: list[str] = []
    faults = [fault for config in study.methods if (fault := _method_fault(config, study.base_dir)) is not None]

    def tried(model: Model, inputs: TextTable) -> bool:
        with redirect_stdout(sys.stderr):  # what it prints is no part of the plan
            fault = trial_fault(model, inputs)
        if fault is not None:
            faults.append(fault)
        return fault is None

    planned = list(steps(study, store, cost_of, tried, cautions))
    return Plan(steps=planned, over_budget=costs.over_budget(), cautions=cautions, faults=faults)


def _method_fault(config: Method, base_dir: Path) -> str | None:
    """What is wrong with a method of the user's own, as far as its function's signature tells."""
    try:
        if isinstance(config, PythonMethodConfig):
            method_function(config, base_dir)
    except FuteError as exc:
        return str(exc)
    return None


def finished_spaces(study: Study, store: Store) -> list[str] | None:
    """The spaces of a study of which a run would find everything; None as soon as something is missing."""
    found = []
    for step in steps(study, store):
        if step.state == TODO:
            return None
        if step.space is not None:
            found.append(step.space)
    return found


def steps(
    study: Study,
    store: Store,
    cost_of: CostOf | None = None,
    tried: Callable[[Model, TextTable], bool] | None = None,
    cautions: list[str] | None = None,
) -> Iterator[Step]:
    """All that a run makes but its record, its pages and caches; and whether it is in the store.

    Args:
        cost_of: estimates what asking a prompted model will cost.
        tried: asks a model that is to be asked in this process about a few inputs; whether it answered.
        cautions: to be added to, where they are asked for.
    """
    run = Run.of(study)
    vectors = VectorStore(store)
    refs: dict[str, DatasetRef] = {}
    for dataset in study.datasets:
        refs[dataset.id] = dataset_ref(run, dataset, store)
        yield _step("ingest", dataset.id, refs[dataset.id].reused)

    pool = planned_pool(study, run, store, refs, cautions)
    yield _step("pool", f"{pool.id} ({len(pool)} rows)", store.pool_path(pool.id).is_file())
    for prompt in study.prompts:
        yield _step("prompt", prompt.id, store.has_prompt(prompt_row(prompt)))

    parts = parts_of(study, refs.values())
    failing: set[str] = set()
    subjects: list[tuple[Kind, str, str]] = [("dataset", d.id, d.ref) for d in refs.values()]
    for model in expand_models(study):
        model_id, cost = str(model.id), None
        if isinstance(model, TrainedModel):
            ref = trained_ref(run, model, parts)
            yield _step("train", model_id, store.has_model(ref, trained=True))
        elif isinstance(model, PromptModel):
            prompted = prompted_model(run, model, parts, with_key=False)
            ref = f"{model_id}@{prompted.fingerprint}"
        else:
            opened = open_model(run, model, parts)
            ref = f"{model_id}@{opened.fingerprint}"
        known = store.has_outputs(pool.id, ref) and store.has_model(ref)
        if isinstance(model, PromptModel) and cost_of is not None:
            endpoint = parts.endpoints[str(model.endpoint)]
            cost = Cost() if known else cost_of(prompted, endpoint, pool.inputs)
            if cautions is not None and model.ask is not None and model.ask < len(pool):
                labels_only = not endpoint.logprobs and model.samples == 1
                cautions.append(f"{model_id}: {tells_of(model.ask, len(pool), labels_only=labels_only)}")
        step = _step("outputs", model_id, known, cost)
        if tried is not None and not known and model.kind in TRIED and not tried(opened, pool.inputs):
            step.state = FAILS
            failing.add(model_id)
        yield step
        subjects.append(("model", model_id, ref))

    identity = {m.method: surrogate_identity(surrogate_of(m, study.surrogate), run.folder) for m in study.methods}
    spaces = {m.method: space_id(identity[m.method], m, pool.id, run.seed, run.folder) for m in study.methods}
    only_models = {m.method for m in study.methods if not m.takes_datasets}
    current: dict[str, dict[SubjectKey, str]] = {space: {} for space in spaces.values()}
    whole, gone = dict.fromkeys(spaces.values(), True), retired(store.root)
    for kind, subject, ref in subjects:
        for method, space in spaces.items():
            if kind == "dataset" and method in only_models:
                continue
            key = embedding_id(space, kind, subject, ref.rpartition("@")[2])
            current[space][kind, subject] = key
            embedded = vectors.has(space, kind, key) and (kind, subject) not in gone  # a run brings those back
            whole[space] &= embedded
            step = _step("embed", f"{subject} [{method}]", embedded)
            yield step.model_copy(update={"state": FAILS}) if subject in failing else step
    for config in study.methods:
        space = spaces[config.method]
        if cautions is not None and (frame := vectors.frame(space)) is not None:
            found = frame.own_first["dataset", "model"]
            cautions.append(
                f"what this pool tells ({config.method}): of {frame.tasks} tasks made of its own rows {found:.0%} "
                "find their own model first"
            )
        population = vectors.population(space, current[space])
        key = ranking_key(population, config, study.unify)
        ranked = whole[space] and vectors.has_ranked(space, key)
        yield _step("unify", config.method, ranked, space=space)
        if ranked and not has_no_model(surrogate_of(config, study.surrogate).model):
            yield _step("match", config.method, not missing_accuracies(store, vectors.space(space), population))


def _step(stage: str, subject: str, known: bool, cost: Cost | None = None, space: str | None = None) -> Step:
    state, calls = DONE if known else TODO, None if cost is None else cost.calls
    return Step(stage=stage, subject=subject, state=state, calls=calls, cost=cost, space=space)


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


def planned_pool(
    study: Study, run: Run, store: Store, refs: dict[str, DatasetRef], cautions: list[str] | None = None
) -> Pool:
    """The pool as a run would build it, in memory, and what to know of it and the datasets."""

    def dataset(config: DatasetConfig) -> Dataset:
        ref = refs[config.id]
        return store.dataset(ref.ref) if ref.reused else ingest(config, run.folder, run.seed)

    if study.pool.reuse is not None:
        pool, evaluated = store.pool(study.pool.reuse), []
        check_reused(study, pool)
    else:
        evaluated = [dataset(d) for d in study.datasets] if study.pool.exclude_evaluated else []
        pool = build_pool(study.pool, run.folder, run.seed, evaluated)
    if cautions is not None:
        known = evaluated or [dataset(d) for d in study.datasets]
        cautions += [line for each in known for line in (*each.report.get("read_as", ()), *dataset_cautions(each))]
        cautions += pool_cautions(pool, () if evaluated else known)
        if study.pool.reuse is None:
            cautions += rows_to_spare(pool, study.pool)
            if change := pool_change(study.name, store, pool, evaluated):
                cautions.append(change)
    return pool
