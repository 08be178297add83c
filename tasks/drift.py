"""Is a prompted model still the one that was embedded? Its panel is asked anew and compared with its baseline."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from pydantic import BaseModel

from fute.config import DriftConfig, PromptModel
from fute.drift import Baseline, Comparison, compare, panel_rows
from fute.errors import DataError, NoAnswersError
from fute.fingerprint import fingerprint
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.methods.crosscov.whitening import Doubles
from fute.space import space_id
from fute.surrogate.load import surrogate_identity
from fute.types import Outputs, Pool
from storage.drift import DriftStore
from tasks import resources
from tasks.endpoints import prompted_model
from tasks.run import Run
from tasks.study import StudyParts

EVENT = "fute.drift"


class DriftCheck(BaseModel):
    """One model, checked."""

    model: str
    baseline: str
    new_baseline: bool
    """Nothing was there to compare with; what was answered now is what later checks are compared with."""
    calls: int
    drifted: bool = False
    reasons: list[str] = []
    distance: float = 0.0
    distance_threshold: float = 0.0
    change: float = 0.0
    change_threshold: float = 0.0


@task(cache_policy=NO_CACHE, task_run_name="drift-{config.id}")
def check_drift(
    run: Run, config: PromptModel, parts: StudyParts, pool: str, drift: DriftConfig, renew: bool = False
) -> DriftCheck:
    """Ask the panel and compare; without a baseline (or with `renew`) make one instead. Raises an event on drift.

    Raises:
        DataError: the panel is another one than that of the model's baseline. A new baseline made in silence would hide
            whatever has changed since.
    """
    store = run.open_store()
    checks = DriftStore(store)
    inputs = store.pool(pool)
    looked_at = prompted_model(run, config, parts, with_key=False)
    ref = f"{looked_at.id}@{looked_at.fingerprint}"
    askable = [row for row, _ in looked_at.requests(inputs.inputs)]
    rows = panel_rows(list(inputs.source_ids), askable, drift.panel_rows, run.seed)
    panel = panel_id(pool, rows)
    calls = 0

    def ask() -> Outputs:
        nonlocal calls
        with resources.answers_handed_in(run):
            outputs = prompted_model(run, config, parts, fresh=True).outputs(inputs.inputs.take(rows))
        calls += int(outputs.details.get("calls", 0))
        return outputs

    known = None if renew else checks.baseline(ref, panel)
    if known is None and not renew and checks.has_baselines(ref):
        raise DataError(
            f"{looked_at.id} was not checked: its baseline is of another panel, for the pool, the seed or "
            "drift.panel_rows has changed. Put them back (pool.reuse keeps a pool), or make a new baseline: "
            "fute drift STUDY --renew"
        )
    if known is None:
        askings = [ask() for _ in range(drift.askings)]
        answered = np.stack([_answered(outputs) for outputs in askings])
        baseline = Baseline(np.stack([outputs.values for outputs in askings]), answered)
        name, _ = checks.put_baseline(ref, panel, rows.tolist(), baseline, run.stamp)
        return DriftCheck(model=looked_at.id, baseline=name, new_baseline=True, calls=calls)
    name, baseline = known
    try:
        outputs = ask()
    except NoAnswersError as exc:  # to have fallen silent is a change, and no failure of the check
        calls = exc.calls
        outputs = _silence(baseline)
    found = compare(
        _features(run, parts, inputs, pool, rows), baseline, outputs.values, _answered(outputs), drift, run.seed
    )
    row = {
        "study": run.study,
        "model": looked_at.id,
        "model_ref": ref,
        "pool": pool,
        "panel": panel,
        "baseline": name,
        "calls": calls,
        "drifted": found.drifted,
        **vars(found),
    }
    checks.put_check(row, outputs.values, _answered(outputs), run.stamp)
    if found.drifted:
        _tell(run, looked_at.id, name, found)
    return DriftCheck(
        model=looked_at.id, baseline=name, new_baseline=False, calls=calls, drifted=found.drifted,
        reasons=list(found.reasons), distance=found.distance, distance_threshold=found.distance_threshold,
        change=found.change, change_threshold=found.change_threshold,
    )  # fmt: skip


def panel_id(pool: str, rows: NDArray[np.intp]) -> str:
    return fingerprint(pool=pool, rows=rows.tolist())


def _silence(baseline: Baseline) -> Outputs:
    """What a model has said that answered nothing; as wide as its answers were at first."""
    values = np.zeros(baseline.values.shape[1:], np.float32)
    return Outputs(kind="scores", values=values, answered=np.zeros(len(values), bool))


def _answered(outputs: Outputs) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    mask = np.zeros(len(outputs.values), bool)
    mask[outputs.answered_rows] = True
    return mask


def _features(run: Run, parts: StudyParts, pool: Pool, pool_id: str, rows: np.ndarray) -> Doubles:
    """(n, d) of the panel's rows, whitened as in the study's crosscov space."""
    method = CrosscovConfig()
    space = space_id(surrogate_identity(parts.surrogate, run.folder), method, pool_id, run.seed)
    embedder = cast(Crosscov, resources.space(run, space, parts.surrogate, method, pool_id))
    asked = np.zeros(len(pool), bool)
    asked[rows] = True
    nothing = Outputs(kind="scores", values=np.zeros((len(pool), 1), np.float32), answered=asked)
    return embedder.model_rows(nothing)[0]


def _tell(run: Run, model: str, baseline: str, found: Comparison) -> None:
    emit_event(
        event=EVENT,
        resource={"prefect.resource.id": f"fute.model.{run.study}.{model}", "prefect.resource.name": model},
        payload={"study": run.study, "model": model, "baseline": baseline, **vars(found)},
    )
