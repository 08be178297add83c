"""Is a prompted model still the one that was embedded? A few rows (the wire) or its panel, asked and compared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from fute.config import DriftConfig, PromptModel
from fute.drift import Answers, Baseline, batches, changed_settings, changes, estimate, p_value, unreadable
from fute.tripwire import WIRE_ALPHA, wire_askings, wire_p_value, wire_rows, wire_size
from storage.drift import Kept
from tasks.engine import NO_CACHE, task
from tasks.run import Run, handed_in
from tasks.served import Served, told_otherwise
from tasks.study import StudyParts
from tasks.watch import DriftCheck, Watch

REST = timedelta(days=1)
"""After a reading for which a wire tripped; else an endpoint with two faces would cost a panel an hour."""
QUIET = 30
"""Looks that did not trip, of which the last are compared with as the baseline is: where answers are labels alone, its
three askings do not suffice to see that a fifth of the labels changed. Set by hand."""


@task(cache_policy=NO_CACHE, task_run_name="drift-{config.id}")
@handed_in
def check_drift(
    run: Run,
    config: PromptModel,
    parts: StudyParts,
    pool: str,
    drift: DriftConfig,
    renew: bool = False,
    wire: bool = False,
    alongside: int = 1,
) -> list[DriftCheck]:
    """Look at one model; without a baseline (or with `renew`) make one instead.

    A check that was stopped goes on, the same day, with the answers that it has paid for (`Watch.name`). Whoever called
    stores what is returned.

    Where the study itself has changed the model since (another system text, another model behind the endpoint), its
    answers are compared all the same, and are the baseline from then on.

    Args:
        wire: ask a few rows only, and the panel where they look otherwise or it was not read for `panel_days`.
        alongside: models that are checked with this one.

    Raises:
        DataError: the panel is another one than that of the model's baseline, or nothing can be compared with it. A new
            baseline made in silence would hide whatever has changed since.
    """
    watch = Watch.of(run, config, parts, pool, drift)
    known = None if renew else watch.baseline()
    if known is None:
        return [watch.enrol(renew)]
    history = watch.checks.checks(run.study, watch.model.id, known.name)
    if known.ref != watch.ref:
        return [_compare_settings(watch, known, history)]
    looked = [_trip(watch, known, history)] if wire else []
    if not wire or looked[0].panel_asked:
        looked.append(_read_panel(watch, known, history, alongside))
    return looked


def _compare_settings(watch: Watch, known: Kept, history: Sequence[dict[str, Any]]) -> DriftCheck:
    """The study has changed the model: an alarm if it answers otherwise, and what it answers is its baseline."""
    served, name, changed = Served(), watch.name("settings"), changed_settings(known.settings, watch.settings)
    columns = known.baseline.values.shape[2]
    told: dict[str, Any]
    # Its first asking alone may say that nobody answers. It is part of the new baseline, and is not paid for twice.
    if silence := unreadable(known.baseline.reference, watch.ask_panel(name, served, columns)):
        told = {"state": "unread", "reasons": [f"the study has changed its {' and '.join(changed)}, and {silence}"]}
        check = watch.check("settings", known.name, served, changed=list(changed), **told)
        watch.checks.put_check(check.row(watch.run.study), watch.run.stamp, watch.day)
        return check
    new = watch.ask_baseline(name, served, columns)
    now, fault = new.reference, new.fault()
    then = f"its baseline stays the old one ({fault})" if fault else "what it answers now is its baseline from now on"
    why = [f"the study has changed its {' and '.join(changed)}, and {then}"]
    alarm = _standing_alarm(history)
    if alarm is not None:  # whose cause is not the study's, and of which nothing will be heard again
        why.append(f"before that its panel had changed already, when it was read last ({alarm:%Y-%m-%d %H:%M} UTC)")
    told = {"changed": list(changed), "state": "settings" if alarm is None else "changed"}
    before = _comparable(watch, known)
    if before is None or before.values.shape[2] != new.values.shape[2]:
        why.insert(0, "its answers are of another kind, and cannot be compared with those before")
        told |= {"drifted": True, "reasons": why}
        check = watch.check("settings", known.name, served, **told)
    else:
        flags = changes(before.reference, now, labels=watch.labels, config=watch.drift)
        ceilings = before.ceilings(labels=watch.labels, config=watch.drift)
        p = p_value([[int(f.sum())] for f in flags], [flags.shape[1]], ceilings, watch.drift.alpha)
        told |= {"reasons": why, "p_value": p, **watch.measured([flags], now)}
        told |= {"found": estimate(before.reference, now, watch.names, watch.drift), "noise": ceilings[0]}
        check = watch.check("settings", known.name, served, **told).judged(p <= watch.drift.alpha)
    check = check.model_copy(update={"drifted": check.drifted or alarm is not None})
    watch.checks.put_check(check.row(watch.run.study), watch.run.stamp, watch.day)
    # Last: whoever is killed before it is told of the change again, and not never.
    if fault is None:
        watch.keep(new, served)
    return check


def _comparable(watch: Watch, known: Kept) -> Baseline | None:
    """The baseline, its labels in the order that the prompt has now; None: what it answers is of another kind (other
    labels, or texts that were embedded otherwise), or may be, for that was not noted."""
    names = watch.names
    if not known.label_names:
        same = all(known.settings.get(name) == watch.settings[name] for name in ("verbalizer", "embedding"))
        return known.baseline if same else None
    if names is None:
        return None
    if set(known.label_names) != set(names):
        return None
    return known.baseline.in_order(np.array([known.label_names.index(name) for name in names]))


def _trip(watch: Watch, known: Kept, history: Sequence[dict[str, Any]]) -> DriftCheck:
    """Ask the wire's rows, and say whether the panel is to be read."""
    served, labels = Served(), watch.labels
    name = watch.name("wire")
    rows = wire_rows(known.baseline, wire_size(known.baseline))
    # Since a reading for which it tripped, it is compared with what was answered then: it trips once for one cause.
    trips = _followed_trips(history)
    otherwise = [number for number in trips if history[number]["p_value"] <= WIRE_ALPHA]  # and not another name alone
    first = [_stored_answers(history[otherwise[-1]])] if otherwise else wire_askings(known.baseline, rows)
    since = history[otherwise[-1] + 1 :] if otherwise else history
    quiet = [row for row in since if row["tier"] == "wire" and row["p_value"] > WIRE_ALPHA]
    before = [*first, *map(_stored_answers, quiet[-QUIET:])]
    now = watch.ask(name, rows, served, known.baseline.values.shape[2])
    p = wire_p_value(before, now, labels=labels, seed=_seed(name))
    heard = known.served.union(*(row["served"] or () for row in history))
    reasons = told_otherwise(heard, served.names)
    if p <= WIRE_ALPHA:
        reasons.append(f"its answers to {len(rows)} rows look otherwise than before (p {p:.1g})")
    time, read = datetime.now(UTC), _panels(history)
    rested = not trips or time - history[trips[-1]]["created_at"] >= REST
    if reasons and not rested:
        reasons.append("the panel was read for a trip within the last day, and is not read again before that is over")
    last = read[-1]["created_at"] if read else known.created_at
    due = (bool(reasons) and rested) or time - last >= timedelta(days=watch.drift.panel_days)
    state = "tripped" if reasons else "unchanged"
    if drifted := not due and _standing_alarm(history) is not None:  # it lasts until the panel says otherwise
        state = "changed" if state == "unchanged" else state
        reasons.append(f"its panel had changed when it was read last ({last:%Y-%m-%d %H:%M} UTC)")
    return watch.check(
        "wire", known.name, served,
        state=state, drifted=drifted, reasons=reasons, p_value=p, panel_asked=due,
        asked=[len(rows)], answered=float(now.answered.mean()),
        panel_answered=now.answered.tolist(), panel_values=now.values.ravel().tolist(),
    )  # fmt: skip


def _followed_trips(history: Sequence[dict[str, Any]]) -> list[int]:
    """Places of the wires that tripped and whose panel was then read: silence is nothing to compare with."""
    found = []
    for number, row in enumerate(history):
        if row["tier"] == "wire" and row["state"] == "tripped" and row["panel_asked"]:
            panel = next((later for later in history[number:] if later["tier"] == "panel"), None)
            if panel is not None and panel["state"] != "unread":
                found.append(number)
    return found


def _read_panel(watch: Watch, known: Kept, history: Sequence[dict[str, Any]], alongside: int) -> DriftCheck:
    """Read the panel in batches, until it is sure or all is read."""
    served, calls, baseline = Served(), watch.calls, known.baseline
    watch.calls = 0  # those of the wire are on its own record
    name, alpha = watch.name("panel"), watch.drift.alpha / alongside
    ceilings = baseline.ceilings(labels=watch.labels, config=watch.drift, alongside=alongside)
    read, alarmed = _since_it_was_as_at_first([row for row in history if row["tier"] == "panel"])
    asked = [n for row in read for n in row["asked"]]
    counts = [[n for row in read for n in row[column]] for column in ("label_changed", "moved")][-len(ceilings) :]
    flags, now, p, why, failed = [], baseline.reference, 1.0, None, 0
    # Whether it is back is seen on the whole panel only.
    for number, rows in enumerate(batches(len(watch.rows), _seed(name))[-1 if alarmed else 0 :]):
        reference = baseline.reference.take(rows)
        now = watch.ask(f"{name} {number}", rows, served, baseline.values.shape[2])
        if (why := unreadable(reference, now)) is not None:
            break
        # What the server failed is no answer: left out, as if it had not been drawn.
        heard = reference.take(now.heard), now.take(now.heard)
        failed = len(rows) - len(now.heard)
        flags.append(changes(*heard, labels=watch.labels, config=watch.drift))
        asked.append(len(now.heard))
        for column, changed in zip(counts, flags[-1], strict=True):
            column.append(int(changed.sum()))
        back = alarmed and all(c[-1] <= top * asked[-1] for c, top in zip(counts, ceilings, strict=True))
        # Evidence once won stays: the mixture's highest value counts (Ville), and not what later bets left of it.
        p = 1.0 if back else min(p_value(counts, asked, ceilings, alpha), *(row["p_value"] for row in read), 1.0)
        if p <= alpha:
            break
    told: dict[str, Any] = {"p_value": p, "noise": ceilings[0], **watch.measured(flags, now)}
    if why:
        told |= {"state": "unread", "reasons": [why]}
    else:
        told |= {"found": estimate(*heard, watch.names, watch.drift), "since": _since(known, history)}
        told |= {"reasons": [f"{failed} of {len(rows)} texts were left out: the server failed them"]} if failed else {}
        told |= {"state": "changed"} if alarmed and not back else {}  # an alarm stands until it is as at first
    check = watch.check("panel", known.name, served, **told)
    watch.calls = calls
    return check


def _seed(name: str) -> int:
    return int(name[:8], 16)


def _stored_answers(row: dict[str, Any]) -> Answers:
    answered = np.array(row["panel_answered"], bool)
    return Answers(np.array(row["panel_values"], np.float32).reshape(len(answered), -1), answered)


def _panels(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that were read."""
    return [row for row in history if row["tier"] == "panel" and row["state"] != "unread"]


def _standing_alarm(history: Sequence[dict[str, Any]]) -> datetime | None:
    """When the panel was read last, where that was an alarm."""
    read = _panels(history)
    return read[-1]["created_at"] if read and _since_it_was_as_at_first(read)[1] else None


def _since_it_was_as_at_first(read: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """The readings on which bets run, and whether the last of them is an alarm.

    The error rate is that of the first alarm. After one, an endpoint that answers as at first again is quiet again, and
    bets begin anew.
    """
    begin, alarmed = 0, False
    for number, row in enumerate(read):
        if alarmed and row["state"] == "unchanged":
            begin = number + 1
        alarmed = row["state"] == "changed" or (alarmed and row["state"] == "unread")
    return list(read[begin:]), alarmed


def _since(known: Kept, history: Sequence[dict[str, Any]]) -> tuple[datetime, datetime]:
    """When it was last as at first, and when it was first seen not to be: now, or at the checks that led here."""
    quiet, loud = known.created_at, datetime.now(UTC)
    for row in reversed(history):
        if row["state"] == "unchanged":
            quiet = row["created_at"]
            break
        if row["state"] != "unread":
            loud = row["created_at"]
    return quiet, loud
