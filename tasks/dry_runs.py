"""What `fute select prompts` and `fute drift` would ask, and what it is likely to cost. Reads, and asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fute.config import DatasetConfig, PromptModel, SelectConfig, Study
from fute.data.ingest import ingest
from fute.drift import batches
from fute.expand import chosen_models, prompt_candidates, watched_models
from fute.llm.cache import MemoryLedger
from fute.tripwire import wire_size
from fute.types import Dataset, TextTable
from storage.drift import DriftStore
from storage.responses import ResponseStore
from tasks.costs import Cost, CostEstimate, times
from tasks.endpoints import prompted_model
from tasks.match_asked import texts_to_ask
from tasks.match_target import Columns
from tasks.plan import DONE, HERE, TODO, Costs, Plan, Step, planned_pool
from tasks.prompt_panel import shared_labels
from tasks.run import Run
from tasks.select import SPELL, file_pool, halves, shared_rows, target_rows
from tasks.study import dataset_ref, parts_of
from tasks.watch import panel_id, rows_of_panel


def plan_selection(
    study: Study, target: str, text: str, text_pair: str | None, prompts: Sequence[str], share: float | None
) -> Plan:
    """A step for each candidate. With successive halving each stands for the mean: who stays is not known before."""
    run, parts, config = Run.of(study), parts_of(study), study.select.with_share(share)
    prompt_candidates(study, None, prompts)  # none at all is told before anything is read
    run.open_store().pull()
    models = prompt_candidates(study, _label_names(study, target), prompts)
    shared_labels([parts.prompts[str(m.prompt)] for m in models])  # a run would be refused as well
    inputs = _target(study, run, config, target, text, text_pair)
    share = config.share if halves(config, len(models)) else 1.0
    if share == 1.0:
        inputs = inputs.take(shared_rows(config.share, len(inputs), run.seed))
    store = run.open_store()
    estimate, ledger = CostEstimate(store), ResponseStore(store.root / "responses")

    def cost_of(config_: PromptModel) -> Cost:
        model = prompted_model(run, config_, parts, with_key=False)
        endpoint = parts.endpoints[str(config_.endpoint)]
        if config.method == SPELL:
            return estimate.of_echoes(model, endpoint, inputs, ledger)
        missing = estimate.of(model, endpoint, inputs, ledger)
        per_text = (2 if parts.prompts[str(config_.prompt)].cot else 1) * config_.samples
        allowed = per_text * (share * len(inputs) + len(model.content_free))
        return times(missing, min(1.0, allowed / missing.calls)) if missing.calls else missing

    return _plan(study, "select", models, cost_of)


def plan_match(study: Study, target: str, columns: Columns, models: Sequence[str] | None, rows: int) -> Plan:
    """A step for each model: of a prompted one, the calls that asking it about all texts takes."""
    run, parts = Run.of(study), parts_of(study)
    store = run.open_store().pull()
    dataset = next((d for d in study.datasets if d.id == target), None)
    path = target if dataset else str(study.path(target))
    inputs = texts_to_ask(path, _read(study, dataset) if dataset else None, columns, rows, run)[0].inputs
    estimate, ledger = CostEstimate(store), ResponseStore(store.root / "responses")

    def cost_of(config: PromptModel) -> Cost:
        model = prompted_model(run, config, parts, with_key=False)
        return estimate.of(model, parts.endpoints[str(config.endpoint)], inputs, ledger)

    chosen = chosen_models(study, models)
    plan = _plan(study, "match", [m for m in chosen if isinstance(m, PromptModel)], cost_of)
    here = [m for m in chosen if not isinstance(m, PromptModel)]
    plan.steps += [Step(stage="match", subject=str(m.id), state=HERE) for m in here]
    return plan


def plan_drift(study: Study, renew: bool, wire: bool = False) -> Plan:
    """A step for each model: the most that a reading of its panel takes, its wire, or a baseline; all asked anew."""
    run, parts = Run.of(study), parts_of(study)
    store = run.open_store().pull()
    pool = planned_pool(study, run, store, {d.id: dataset_ref(run, d, store) for d in study.datasets})
    estimate, checks = CostEstimate(store), DriftStore(store)

    def cost_of(config: PromptModel) -> Cost:
        model = prompted_model(run, config, parts, with_key=False)
        rows = rows_of_panel(model, pool.inputs, list(pool.source_ids), study.drift, run.seed)
        ref = f"{model.id}@{model.fingerprint}"
        known = None if renew else checks.baseline(study.name, ref, panel_id(pool.id, rows))
        once = estimate.of(model, parts.endpoints[str(config.endpoint)], pool.inputs.take(rows), MemoryLedger())
        if known is None or known.ref != ref:
            return times(once, study.drift.askings)
        asked = wire_size(known.baseline) if wire else sum(map(len, batches(len(rows), 0)))
        return times(once, asked / len(rows))

    return _plan(study, "drift", watched_models(study), cost_of)


def _plan(study: Study, stage: str, models: Sequence[PromptModel], cost_of: Callable[[PromptModel], Cost]) -> Plan:
    steps, costs = [], Costs(study)
    for model in models:
        cost = cost_of(model)
        costs.add(str(model.endpoint), cost)
        state = TODO if cost.calls else DONE
        steps.append(Step(stage=stage, subject=str(model.id), state=state, calls=cost.calls, cost=cost))
    return Plan(steps=steps, over_budget=costs.over_budget())


def _label_names(study: Study, target: str) -> Sequence[str] | None:
    """The labels of a target that is a dataset of the study."""
    dataset = next((d for d in study.datasets if d.id == target), None)
    return None if dataset is None else _read(study, dataset).label_names


def _target(study: Study, run: Run, config: SelectConfig, target: str, text: str, text_pair: str | None) -> TextTable:
    """The texts that a selection would ask about."""
    dataset = next((d for d in study.datasets if d.id == target), None)
    if dataset is None:
        return file_pool({"files": str(study.path(target))}, text, text_pair, config.rows, run.folder, run.seed).inputs
    return target_rows(run, target, _read(study, dataset).train.inputs, config.rows)


def _read(study: Study, dataset: DatasetConfig) -> Dataset:
    run = Run.of(study)
    store = run.open_store()
    known = dataset_ref(run, dataset, store)
    return store.dataset(known.ref) if known.reused else ingest(dataset, run.folder, run.seed)
