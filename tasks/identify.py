"""Is another endpoint the model that was enrolled? The wire's rows of its baseline, asked there."""

from __future__ import annotations

from typing import Any

from fute.config import DriftConfig, PromptModel, Study
from fute.did_you_mean import did_you_mean, listed
from fute.drift import unreadable
from fute.errors import ConfigError, DataError
from fute.expand import watched_models
from fute.fingerprint import fingerprint
from fute.tripwire import WIRE_ROWS, identify, wire_askings, wire_rows
from tasks.engine import NO_CACHE, task
from tasks.run import Run, handed_in
from tasks.served import Served
from tasks.study import StudyParts
from tasks.watch import DriftCheck, Watch


def enrolled_model(study: Study, endpoint: str, reference: str) -> PromptModel:
    """The watched model of this name, or the first one at the endpoint of this name.

    Raises:
        ConfigError: no such model or endpoint.
    """
    models = watched_models(study)
    known = [e.id for e in study.endpoints]
    if endpoint not in known:
        raise ConfigError(
            f"no endpoint {endpoint!r} in study {study.name}{did_you_mean(endpoint, known)}; there are: {listed(known)}"
        )
    found = [m for m in models if reference == m.id] or [m for m in models if reference == m.endpoint]
    if not found:
        names = [*(str(m.id) for m in models), *known]
        raise ConfigError(
            f"no watched model {reference!r} in study {study.name}{did_you_mean(reference, names)}; there are: "
            f"{listed([str(m.id) for m in models])}"
        )
    return found[0]


@task(cache_policy=NO_CACHE, task_run_name="identify-{endpoint}")
@handed_in
def identify_endpoint(
    run: Run, config: PromptModel, endpoint: str, parts: StudyParts, pool: str, drift: DriftConfig
) -> DriftCheck:
    """Ask once and judge. Asked again the same day it says the same and pays nothing: twice is no second chance.

    Raises:
        DataError: the reference has no baseline as it is now.
    """
    enrolled = Watch.of(run, config, parts, pool, drift)
    known = enrolled.baseline()
    if known is None or known.ref != enrolled.ref:
        raise DataError(
            f"{config.id} has no baseline with its present settings, so nothing can be compared with it. Make one "
            "while it is the model that you mean: fute drift STUDY"
        )
    asked = Watch.of(run, config.model_copy(update={"endpoint": endpoint}), parts, pool, drift)
    rows, served = wire_rows(known.baseline, WIRE_ROWS), Served()
    # Silence has judged nobody: after it, the endpoint is asked anew.
    silent = enrolled.checks.n_silent(asked.ref, known.name, asked.day)
    name = fingerprint(identity=asked.ref, of=known.name, day=asked.day.isoformat(), silent=silent)
    now, before = asked.ask(name, rows, served, known.baseline.values.shape[2]), wire_askings(known.baseline, rows)
    told: dict[str, Any]
    if (why := unreadable(before[0], now)) is not None:
        told = {"state": "unread", "reasons": [f"{endpoint} as {config.id}: cannot tell: {why}"]}
    else:
        found = identify(before, now, labels=asked.labels, seed=int(name[:8], 16))
        told = {"state": found.verdict, "p_value": found.p_value}
        told |= {"reasons": [f"{endpoint} as {config.id}: {found.sentence}", *served.names]}
    check = asked.check(
        "identity", known.name, served, **told,
        asked=[len(rows)], answered=float(now.answered.mean()), panel_answered=now.answered.tolist(),
    )  # fmt: skip
    enrolled.checks.put_check(check.row(run.study), run.stamp, asked.day)
    return check
