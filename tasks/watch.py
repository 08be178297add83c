"""One prompted model under watch: its panel, its baseline, how it is asked, and what a look at it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from fute.config import DriftConfig, PromptModel
from fute.drift import Answers, Baseline, Estimate, panel_rows
from fute.errors import DataError, NoAnswersError
from fute.fingerprint import fingerprint
from fute.models.prompted import PromptedModel
from fute.types import TextTable
from storage.drift import DriftStore, Kept
from tasks import resources
from tasks.endpoints import prompted_model
from tasks.run import Run
from tasks.served import Served
from tasks.study import StudyParts

Tier = Literal["baseline", "wire", "panel", "settings", "identity"]


class DriftCheck(BaseModel):
    """One look at one model: what of it is stored in the view `drift`, and what is told."""

    model: str
    model_ref: str
    pool: str
    panel: str
    baseline: str
    tier: Tier
    state: str = "unchanged"
    """unchanged, changed, tripped, settings, unread; of an identity same, another, unknown, unread."""
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
        drifted = drifted or (self.tier == "panel" and self.state == "changed")
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
        # That of an earlier fute may be of any quality.
        if known.ref == self.ref and (fault := known.baseline.fault()) is not None:
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

    def ask_panel(self, name: str, served: Served, columns: int | None = None, number: int = 0) -> Answers:
        """Ask about the whole panel, for the n-th time under this name."""
        return self.ask(f"{name} {number}", np.arange(len(self.rows)), served, columns)

    def ask_baseline(self, name: str, served: Served, columns: int | None = None) -> Baseline:
        askings = [self.ask_panel(name, served, columns, number) for number in range(self.drift.askings)]
        return Baseline(np.stack([a.values for a in askings]), np.stack([a.answered for a in askings]))

    def keep(self, baseline: Baseline, served: Served) -> str:
        return self.checks.put_baseline(
            self.ref, self.panel, self.rows.tolist(), baseline, self.run.stamp,
            study=self.run.study, settings=self.settings, served=served.names, label_names=self.names or (),
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
