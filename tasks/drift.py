"""Is a prompted model still the one that was embedded? A few rows (the wire) or its panel, asked and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from fute.config import DriftConfig, PromptModel
from fute.drift import (
    Answers,
    Baseline,
    Estimate,
    batches,
    changed_settings,
    changes,
    estimate,
    p_value,
    panel_rows,
    unreadable,
)
from fute.errors import DataError, NoAnswersError
from fute.fingerprint import fingerprint
from fute.models.prompted import PromptedModel
from fute.tripwire import WIRE_ALPHA, wire_askings, wire_p_value, wire_rows, wire_size
from fute.types import TextTable
from storage.drift import DriftStore, Kept
from tasks import resources
from tasks.endpoints import prompted_model
from tasks.engine import NO_CACHE, task
from tasks.run import Run, handed_in
from tasks.served import Served, told_otherwise
from tasks.study import StudyParts

Tier = Literal["baseline", "wire", "panel", "settings", "identity"]

REST = timedelta(days=1)
"""After a reading for which a wire tripped; else an endpoint with two faces would cost a panel an hour."""


class DriftCheck(BaseModel):
    """One look at one model: what of it is stored in the view `drift`, and what is told."""

    model: str
    model_ref: str
    pool: str
    panel: str
    baseline: str
    tier: Tier
    state: str = "unchanged"
    """unchanged, changed, tripped, settings, unread; of an identity same, another, unknown."""
    drifted: bool = False
    reasons: list[str] = []
    """The verdict, in words."""
    changed: list[str] = []
    """Settings of the study that are not those of the baseline."""
    calls: int
    p_value: float | None = None
    asked: list[int] = []
    label_changed: list[int] = []
    moved: list[int] = []
    noise: float | None = None
    found: Estimate | None = None
    label_names: list[str] | None = None
    answered: float | None = None
    served: list[str] = []
    since: tuple[datetime, datetime] | None = None
    """It was quiet at the first, and no longer at the second."""
    panel_asked: bool = False
    panel_answered: list[bool] = []
    panel_labels: list[int] = []
    panel_values: list[float] = []
    day: date
    """UTC, on which it began."""

    def judged(self, drifted: bool) -> DriftCheck:
        """With its verdict: whether it has changed hangs on the study's other models too."""
        if self.found is None or self.state == "unread":
            return self
        told = self.found.sentence(drifted, self.label_names)
        if drifted and self.since is not None:
            told += "; first seen between {:%Y-%m-%d %H:%M} and {:%Y-%m-%d %H:%M} UTC".format(*self.since)
        state = ("changed" if drifted else "unchanged") if self.tier == "panel" else self.state
        return self.model_copy(update={"state": state, "drifted": drifted, "reasons": [told, *self.reasons]})

    def row(self, study: str) -> dict[str, Any]:
        """Columns of the view `drift`."""
        told = self.model_dump() | {"study": study}
        if self.found is not None:
            turns = [f"{before} to {after}: {count}" for before, after, count in self.found.turns]
            told |= asdict(self.found) | {"share": self.found.share, "detectable": self.found.detectable}
            told |= {"share_low": self.found.low, "share_high": self.found.high, "turns": turns}
            told |= {"changed": self.changed, "moved": self.moved}
        return told


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

    A check that was stopped goes on, the same day, with the answers that it has paid for (`_name_of`). Whoever called
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
    if known.ref != watch.ref:
        return [watch.compare_settings(known)]
    history = watch.checks.checks(run.study, watch.model.id, known.name)
    looked = [watch.trip(known, history)] if wire else []
    if not wire or looked[0].panel_asked:
        looked.append(watch.read_panel(known, history, alongside))
    return looked


@dataclass
class Watch:
    """One model under watch: its panel, and how it is asked.

    Attributes:
        model: to be looked at, and not asked.
        rows: of the pool, that make the panel.
        labels: whether it answers with labels, and not in free text.
    """

    run: Run
    config: PromptModel
    parts: StudyParts
    drift: DriftConfig
    pool: str
    inputs: TextTable
    model: PromptedModel
    rows: NDArray[np.intp]
    labels: bool
    day: date
    calls: int = 0

    @classmethod
    def of(cls, run: Run, config: PromptModel, parts: StudyParts, pool: str, drift: DriftConfig) -> Watch:
        inputs = run.open_store().pool(pool)
        model = prompted_model(run, config, parts, with_key=False)
        rows = rows_of_panel(model, inputs.inputs, list(inputs.source_ids), drift, run.seed)
        labels = parts.prompts[str(config.prompt)].answer == "label"
        return cls(run, config, parts, drift, pool, inputs.inputs, model, rows, labels, today())

    @property
    def checks(self) -> DriftStore:
        return DriftStore(self.run.open_store())

    @property
    def ref(self) -> str:
        return f"{self.model.id}@{self.model.fingerprint}"

    @property
    def panel(self) -> str:
        return panel_id(self.pool, self.rows)

    @property
    def settings(self) -> dict[str, str]:
        return {name: fingerprint(value=value) for name, value in self.model.identity.items()}

    @property
    def names(self) -> list[str] | None:
        return list(self.parts.prompts[str(self.config.prompt)].verbalizer) if self.labels else None

    def baseline(self) -> Kept | None:
        known = self.checks.baseline(self.run.study, self.ref, self.panel)
        if known is None:
            if self.checks.has_baselines(self.run.study, self.ref):
                raise DataError(
                    f"{self.model.id} was not checked: its baseline is of another panel, for the pool, the seed, "
                    "drift.panel_rows or whether it is asked about pairs has changed. Put it back (pool.reuse keeps a "
                    "pool) or make a new baseline: fute drift STUDY --renew"
                )
            return None
        if (
            known.ref == self.ref and (fault := known.baseline.fault()) is not None
        ):  # of an earlier fute, which kept any
            raise DataError(
                f"{self.model.id}: nothing can be compared with its baseline: {fault}. Make a new one: "
                "fute drift STUDY --renew"
            )
        return known

    def name(self, tier: str, renew: bool = False) -> str:
        """Of a check: under it its answers are paid once.

        The next run has the same name until the check is stored, and so goes on with what a stopped one was answered.
        Not the next day: an answer of last week says nothing of today, so that a check never mixes two days' answers.
        A wish for new answers (`renew`) is another name: those of a check that came to nothing are no new ones.
        """
        n_stored = self.checks.n_stored(self.run.study, self.ref, self.day)
        told: dict[str, Any] = {"n_stored": n_stored, "day": self.day.isoformat(), "renew": renew, "tier": tier}
        return fingerprint(study=self.run.study, model=self.ref, panel=self.panel, **told)

    def ask(self, name: str, rows: NDArray[np.intp], served: Served, columns: int | None = None) -> Answers:
        """Ask about rows of the panel, under the name of this asking."""
        with resources.answers_handed_in(self.run):
            model = prompted_model(self.run, self.config, self.parts, fresh=name, around=served.around)
            try:
                outputs = model.outputs(self.inputs.take(self.rows[rows]))
            except NoAnswersError as exc:  # silence is something that it says
                if columns is None:
                    raise
                self.calls += exc.calls
                return Answers(np.zeros((len(rows), columns), np.float32), np.zeros(len(rows), bool))
        self.calls += int(outputs.details.get("calls", 0))
        return Answers.of(outputs)

    def ask_baseline(self, name: str, served: Served, columns: int | None = None) -> Baseline:
        whole = np.arange(len(self.rows))
        askings = [self.ask(f"{name} {number}", whole, served, columns) for number in range(self.drift.askings)]
        return Baseline(np.stack([a.values for a in askings]), np.stack([a.answered for a in askings]))

    def keep(self, baseline: Baseline, served: Served) -> str:
        return self.checks.put_baseline(
            self.ref, self.panel, self.rows.tolist(), baseline, self.run.stamp,
            study=self.run.study, settings=self.settings, served=served.names,
        )  # fmt: skip

    def check(self, tier: Tier, baseline: str, served: Served, **told: Any) -> DriftCheck:
        return DriftCheck(
            model=self.model.id, model_ref=self.ref, pool=self.pool, panel=self.panel, baseline=baseline, tier=tier,
            calls=self.calls, served=served.names, label_names=self.names, day=self.day, **told,
        )  # fmt: skip

    def enrol(self, renew: bool) -> DriftCheck:
        served = Served()
        first = self.ask_baseline(self.name("baseline", renew), served)
        if (fault := first.fault()) is not None:
            raise DataError(
                f"{self.model.id} has no baseline yet, and what it answered cannot be one: {fault}. With the same "
                "panel and settings it is asked anew tomorrow (UTC), for the same answers are not paid again; once "
                "more today: fute drift STUDY --renew"
            )
        return self.check("baseline", self.keep(first, served), served)

    def compare_settings(self, known: Kept) -> DriftCheck:
        """The study has changed the model: an alarm if it answers otherwise, and what it answers is its baseline."""
        served, before = Served(), known.baseline
        changed = changed_settings(known.settings, self.settings)
        new = self.ask_baseline(self.name("settings"), served, before.values.shape[2])
        now, fault = new.reference, new.fault()
        then = (
            f"its baseline stays the old one ({fault})" if fault else "what it answers now is its baseline from now on"
        )
        told: dict[str, Any] = {"changed": list(changed), "state": "settings"}
        why = f"the study has changed its {' and '.join(changed)}, and {then}"
        columns = (before.values.shape[2], new.values.shape[2])
        if columns[0] != columns[1]:
            told |= {
                "drifted": True,
                "reasons": [f"its answers are {columns[1]} numbers each, and were {columns[0]}", why],
            }
            check = self.check("settings", known.name, served, **told)
        else:
            flags = changes(before.reference, now, labels=self.labels, config=self.drift)
            ceilings = before.ceilings(labels=self.labels, config=self.drift)
            p = p_value([[int(f.sum())] for f in flags], [flags.shape[1]], ceilings, self.drift.alpha)
            told |= {"reasons": [why], "p_value": p, **self.measured([flags], now)}
            told |= {"found": estimate(before.reference, now, self.names, self.drift), "noise": ceilings[0]}
            check = self.check("settings", known.name, served, **told).judged(p <= self.drift.alpha)
        self.checks.put_check(check.row(self.run.study), self.run.stamp, self.day)
        # Last: whoever is killed before it is told of the change again, and not never.
        if fault is None:
            self.keep(new, served)
        return check

    def trip(self, known: Kept, history: Sequence[dict[str, Any]]) -> DriftCheck:
        """Ask the wire's rows, and say whether the panel is to be read."""
        served, labels = Served(), self.labels
        name = self.name("wire")
        rows = wire_rows(known.baseline, wire_size(known.baseline))
        before = wire_askings(known.baseline, rows)
        wires = [row for row in history if row["tier"] == "wire"]
        # Since a reading for which it tripped, it is compared with what was answered then: it trips once for one cause.
        if armed := [number for number, row in enumerate(wires) if row["state"] == "tripped" and row["panel_asked"]]:
            before = [_stored_answers(row) for row in wires[armed[-1] :]]
        now = self.ask(name, rows, served, known.baseline.values.shape[2])
        p = wire_p_value(before, now, labels=labels, seed=_seed(name))
        heard = known.served.union(*(row["served"] or () for row in history))
        reasons = told_otherwise(heard, served.names)
        if p <= WIRE_ALPHA:
            reasons.append(f"its answers to {len(rows)} rows look otherwise than before (p {p:.1g})")
        time, read = datetime.now(UTC), [row["created_at"] for row in history if row["tier"] == "panel"]
        rested = not armed or time - wires[armed[-1]]["created_at"] >= REST
        if reasons and not rested:
            reasons.append(
                "the panel was read for a trip within the last day, and is not read again before that is over"
            )
        due = (bool(reasons) and rested) or (
            time - max(read, default=known.created_at) >= timedelta(days=self.drift.panel_days)
        )
        return self.check(
            "wire", known.name, served,
            state="tripped" if reasons else "unchanged", reasons=reasons, p_value=p, panel_asked=due,
            asked=[len(rows)], answered=float(now.answered.mean()),
            panel_answered=now.answered.tolist(), panel_values=now.values.ravel().tolist(),
        )  # fmt: skip

    def read_panel(self, known: Kept, history: Sequence[dict[str, Any]], alongside: int) -> DriftCheck:
        """Read the panel in batches, until it is sure or all is read."""
        served, calls, baseline = Served(), self.calls, known.baseline
        self.calls = 0  # those of the wire are on its own record
        name, ceilings = self.name("panel"), baseline.ceilings(labels=self.labels, config=self.drift)
        read, alarmed = _since_it_was_as_at_first([row for row in history if row["tier"] == "panel"])
        asked = [n for row in read for n in row["asked"]]
        counts = [[n for row in read for n in row[column]] for column in ("label_changed", "moved")][-len(ceilings) :]
        flags, now, p, why = [], baseline.reference, 1.0, None
        # Whether it is back is seen on the whole panel only.
        for number, rows in enumerate(batches(len(self.rows), _seed(name))[-1 if alarmed else 0 :]):
            reference = baseline.reference.take(rows)
            now = self.ask(f"{name} {number}", rows, served, baseline.values.shape[2])
            if (why := unreadable(reference, now)) is not None:
                break
            flags.append(changes(reference, now, labels=self.labels, config=self.drift))
            asked.append(len(rows))
            for column, changed in zip(counts, flags[-1], strict=True):
                column.append(int(changed.sum()))
            back = alarmed and all(c[-1] <= top * asked[-1] for c, top in zip(counts, ceilings, strict=True))
            p = 1.0 if back else p_value(counts, asked, ceilings, self.drift.alpha)
            if p <= self.drift.alpha / alongside:
                break
        told: dict[str, Any] = {"p_value": p, "noise": ceilings[0], **self.measured(flags, now)}
        told |= {"state": "unread", "reasons": [why]} if why else {
            "found": estimate(reference, now, self.names, self.drift), "since": _since(known, history)
        }  # fmt: skip
        check = self.check("panel", known.name, served, **told)
        self.calls = calls
        return check

    def measured(self, flags: Sequence[NDArray[np.bool_]], now: Answers) -> dict[str, Any]:
        return {
            "asked": [f.shape[1] for f in flags],
            "label_changed": [int(f[0].sum()) for f in flags],
            "moved": [int(f[-1].sum()) for f in flags],
            "answered": float(now.answered.mean()),
            "panel_answered": now.answered.tolist(),
            "panel_labels": now.labels.tolist() if self.labels else [],
        }


def rows_of_panel(
    model: PromptedModel, inputs: TextTable, source_ids: list[str], drift: DriftConfig, seed: int
) -> NDArray[np.intp]:
    askable = [row for row, _ in model.requests(inputs)]
    return panel_rows(source_ids, askable, drift.panel_rows, seed)


def panel_id(pool: str, rows: NDArray[np.intp]) -> str:
    return fingerprint(pool=pool, rows=rows.tolist())


def today() -> date:
    """UTC: all workers then call a check by the same name."""
    return datetime.now(UTC).date()


def _seed(name: str) -> int:
    return int(name[:8], 16)


def _stored_answers(row: dict[str, Any]) -> Answers:
    answered = np.array(row["panel_answered"], bool)
    return Answers(np.array(row["panel_values"], np.float32).reshape(len(answered), -1), answered)


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
