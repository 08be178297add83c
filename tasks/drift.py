"""Is a prompted model still the one that was embedded? Its panel is asked anew and compared with its baseline."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
from numpy.typing import NDArray
from prefect.events import emit_event
from pydantic import BaseModel

from fute.config import DriftConfig, PromptModel
from fute.drift import Baseline, Comparison, changed_settings, compare, panel_rows
from fute.errors import DataError, NoAnswersError
from fute.fingerprint import fingerprint
from fute.methods.crosscov.whitening import Doubles
from fute.types import Outputs, Pool
from storage.drift import DriftStore
from tasks import resources
from tasks.endpoints import prompted_model
from tasks.engine import NO_CACHE, task
from tasks.run import Run, handed_in
from tasks.study import StudyParts

EVENT = "fute.drift"


class DriftCheck(BaseModel):
    """One model, checked."""

    model: str
    baseline: str
    new_baseline: bool
    """What was answered now is what later checks are compared with: nothing was there to compare with, or the study has
    other settings for the model than it had then."""
    calls: int
    drifted: bool = False
    reasons: list[str] = []
    changed: list[str] = []
    """Settings of the study that are not those of the baseline."""
    distance: float = 0.0
    distance_threshold: float = 0.0
    change: float = 0.0
    change_threshold: float = 0.0


@task(cache_policy=NO_CACHE, task_run_name="drift-{config.id}")
@handed_in
def check_drift(
    run: Run, config: PromptModel, parts: StudyParts, pool: str, drift: DriftConfig, renew: bool = False
) -> DriftCheck:
    """Ask the panel and compare; without a baseline (or with `renew`) make one instead. Raises an event on drift.

    A check that was stopped goes on, the same day, with the answers that it has paid for (`_name_of`).

    Where the study itself has changed the model since (another system text, another model behind the endpoint), what it
    answers now is compared all the same, and is the baseline from then on: one alarm, if the answers are others.

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
    day = today()
    calls = 0

    def ask(times: int) -> list[Outputs]:
        nonlocal calls
        askings = []
        for number in range(times):
            with resources.answers_handed_in(run):
                model = prompted_model(run, config, parts, fresh=f"{this_check} {number}")
                askings.append(model.outputs(inputs.inputs.take(rows)))
            calls += int(askings[-1].details.get("calls", 0))
        return askings

    def keep(baseline: Baseline) -> str:
        return checks.put_baseline(ref, panel, rows.tolist(), baseline, run.stamp, study=run.study, settings=settings)

    settings = {name: fingerprint(value=value) for name, value in looked_at.identity.items()}
    known = None if renew else checks.baseline(run.study, ref, panel)
    if known is None and not renew and checks.has_baselines(run.study, ref):
        raise DataError(
            f"{looked_at.id} was not checked: its baseline is of another panel, for the pool, the seed, "
            "drift.panel_rows or whether it is asked about pairs has changed. Put it back (pool.reuse keeps a pool) "
            "or make a new baseline: fute drift STUDY --renew"
        )
    # After the look for a baseline: were one stored in between, it would be compared with its own answers.
    this_check = _name_of(run.study, ref, panel, checks.n_stored(run.study, ref, day), day, renew)
    fault = None if known is None else known.baseline.fault()
    if known is not None and known.ref == ref and fault is not None:  # of an earlier fute, which kept any
        raise DataError(
            f"{looked_at.id}: nothing can be compared with its baseline: {fault}. Make a new one: "
            "fute drift STUDY --renew"
        )
    features = _features(run, parts, inputs, pool, rows)  # which may fail: before anything is paid
    if known is None:
        first = _baseline(ask(drift.askings))
        if (fault := first.fault()) is not None:
            raise DataError(
                f"{looked_at.id} has no baseline yet, and what it answered cannot be one: {fault}. With the same "
                "panel and settings it is asked anew tomorrow (UTC), for the same answers are not paid again; once "
                "more today: fute drift STUDY --renew"
            )
        return DriftCheck(model=looked_at.id, baseline=keep(first), new_baseline=True, calls=calls)
    changed = () if known.ref == ref else changed_settings(known.settings, settings)
    try:
        askings = ask(drift.askings if changed else 1)
    except NoAnswersError as exc:  # to have fallen silent is a change, and no failure of the check
        calls += exc.calls
        askings = [_silence(known.baseline)]
    outputs, new = askings[0], _baseline(askings)
    if fault is None:
        found = compare(features, known.baseline, outputs.values, _answered(outputs), drift, run.seed)
    else:  # the change may well be the mending of it
        why = f"its answers could not be compared: {fault}"
        found = Comparison.impossible(why, 0, float(_answered(outputs).mean()))
    if changed:
        then = "what it answers now is its baseline from now on"
        if (reason := new.fault()) is not None:
            then = f"its baseline stays the old one ({reason})"
        found = found.explained(f"the study has changed its {' and '.join(changed)}, and {then}")
    row = {
        "study": run.study,
        "model": looked_at.id,
        "model_ref": ref,
        "pool": pool,
        "panel": panel,
        "baseline": known.name,
        "calls": calls,
        "drifted": found.drifted,
        "changed": list(changed),
        **vars(found),
    }
    checks.put_check(row, outputs.values, _answered(outputs), run.stamp, day)
    if found.drifted:
        _tell(run, looked_at.id, known.name, found)
    # Last: whoever is killed before it is told of the change again, and not never.
    if renewed := bool(changed) and new.fault() is None:
        keep(new)
    return DriftCheck(
        model=looked_at.id,
        baseline=known.name,
        new_baseline=renewed,
        calls=calls,
        drifted=found.drifted,
        reasons=list(found.reasons),
        changed=list(changed),
        **{name: row[name] for name in ("distance", "distance_threshold", "change", "change_threshold")},
    )


def panel_id(pool: str, rows: NDArray[np.intp]) -> str:
    return fingerprint(pool=pool, rows=rows.tolist())


def today() -> date:
    """UTC: all workers then call a check by the same name."""
    return datetime.now(UTC).date()


def _name_of(study: str, ref: str, panel: str, n_stored: int, day: date, renew: bool) -> str:
    """A check's name, under which its answers are paid once.

    The next run has the same name until the check is stored, and so goes on with what a stopped one was answered. Not
    the next day: an answer of last week says nothing of today, so that a check never mixes the answers of two days.

    Args:
        n_stored: how many baselines and checks the model has; one more is another check.
        renew: a wish for new answers, which those of a check that came to nothing are not.
    """
    return fingerprint(study=study, model=ref, panel=panel, n_stored=n_stored, day=day.isoformat(), renew=renew)


def _baseline(askings: list[Outputs]) -> Baseline:
    return Baseline(np.stack([o.values for o in askings]), np.stack([_answered(o) for o in askings]))


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
    asked = np.zeros(len(pool), bool)
    asked[rows] = True
    nothing = Outputs(kind="scores", values=np.zeros((len(pool), 1), np.float32), answered=asked)
    return resources.crosscov(run, parts.surrogate, pool_id).model_rows(nothing)[0]


def _tell(run: Run, model: str, baseline: str, found: Comparison) -> None:
    emit_event(
        event=EVENT,
        resource={"prefect.resource.id": f"fute.model.{run.study}.{model}", "prefect.resource.name": model},
        payload={"study": run.study, "model": model, "baseline": baseline, **vars(found)},
    )
