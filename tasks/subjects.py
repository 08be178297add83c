"""What the store knows of each subject of a space, for its page: facts, prompt, cost, history and drift."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from fute.config import EndpointConfig
from fute.llm.budget import cost_usd
from fute.report import types as page
from fute.types import Kind
from storage.catalog import Catalog
from storage.files import read_parquet
from storage.store import Store
from storage.summary import SpaceSummary
from storage.vectors import StoredEmbedding, VectorStore

MOST_VERSIONS = 30  # of a subject in a space; older ones are in the view `embeddings`
MOST_CHECKS = 500  # of a model: years of weekly ones; older ones are in the view `drift`
FACT_CHARACTERS = 400

Key = tuple[Kind, str]


@dataclass
class SubjectReader:
    """Reads subjects of one store.

    Attributes:
        catalog: open on the store.
        prices: by endpoint id, of the run that is going on, which the store does not know yet.
    """

    store: Store
    catalog: Catalog
    prices: Mapping[str, EndpointConfig]
    _past_prices: dict[str | None, Mapping[str, EndpointConfig]] = field(default_factory=dict)

    def of(self, summary: SpaceSummary) -> dict[Key, page.Subject]:
        """The subjects of a space, in the order of its population."""
        history = self._history(summary.space["space"], summary.population)
        told = {}
        for e in summary.population:
            tell = self._dataset if e.kind == "dataset" else self._model
            told[e.kind, e.subject] = tell(summary, e, history[e.kind, e.subject])
        return told

    def _dataset(self, summary: SpaceSummary, e: StoredEmbedding, history: list[page.Version]) -> page.Subject:
        card = read_parquet(self.store.dataset_folder(e.ref) / "card.parquet").to_pylist()[0]
        sizes = [f"{card[f'n_{split}']:,} {split}" for split in ("train", "validation", "test") if card[f"n_{split}"]]
        data = json.loads(card["provenance"]).get("data")
        facts = [
            ("rows", ", ".join(sizes)),
            ("labels", ", ".join(card["label_names"] or ())),
            ("from", "" if data is None else _in_short(data)),
        ]
        return page.Subject(
            id=e.subject,
            kind="dataset",
            type=e.row["subject_kind"],
            family=card["family"],
            facts=_known([*facts, *_made(card)]),
            history=history,
        )

    def _model(self, summary: SpaceSummary, e: StoredEmbedding, history: list[page.Version]) -> page.Subject:
        card = summary.model_cards[e.subject]
        settings = {k: v for k, v in json.loads(card["settings"] or "{}").items() if v not in (None, "", [], {})}
        prompted = e.row["subject_kind"] == "prompt"
        details = self.store.outputs_details(summary.space["pool"], e.ref)
        shown = {k: v for k, v in settings.items() if k not in ("kind", "id", "task")}
        facts = [(name.replace("_", " "), _in_short(value)) for name, value in shown.items()]
        if details.get("resolved_models"):
            facts.append(("answered by", ", ".join(details["resolved_models"])))
        return page.Subject(
            id=e.subject,
            kind="model",
            type=e.row["subject_kind"],
            family=summary.families.get(e.row["task"] or ""),
            task=e.row["task"],
            score=card["score"],
            score_name=card["score_name"],
            majority=card["majority"],
            facts=_known([*facts, *_made(card)]),
            prompt=self._prompt(settings.get("prompt"), card["created_at"]) if prompted else None,
            cost=self._cost(card, settings.get("endpoint"), details),
            history=history,
            drift=self._drift.get(e.subject, []),
        )

    def _prompt(self, name: str | None, at: datetime) -> page.Prompt | None:
        """The prompt of that name as it was when the model's card was written."""
        versions = [row for row in self._prompts if row["id"] == name]
        earlier = [row for row in versions if row["created_at"] <= at]
        if not versions:
            return None
        row = (earlier or versions[:1])[-1]
        return page.Prompt(
            template=row["template"],
            system=row["system"],
            follow_up=row["follow_up"],
            verbalizer=json.loads(row["verbalizer"] or "{}") or {},
        )

    def _cost(self, card: Mapping[str, Any], endpoint: str | None, details: Mapping[str, Any]) -> page.Cost | None:
        if not details.get("calls") and not details.get("cached"):
            return None
        priced = self._prices_in(card["flow_run_id"]).get(endpoint or "")
        tokens_in, tokens_out = details.get("tokens_in"), details.get("tokens_out")
        return page.Cost(
            calls=details.get("calls", 0),
            kept=details.get("cached", 0),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            usd=None if priced is None else cost_usd(priced, tokens_in, tokens_out),
            latency_ms=details.get("latency_ms"),
        )

    def _history(self, space: str, population: Sequence[StoredEmbedding]) -> dict[Key, list[page.Version]]:
        """By subject, its embeddings in the space, oldest first. Vectors are read where there are several."""
        vectors = VectorStore(self.store)
        current = {(e.kind, e.subject): e for e in population}
        versions: dict[Key, list[dict[str, Any]]] = {}
        for row in self._rows(
            "SELECT kind, subject, fingerprint, created_at, run_id, flow_run_id FROM embeddings WHERE space = $space "
            "ORDER BY created_at, fingerprint",
            {"space": space},
        ):
            versions.setdefault((row["kind"], row["subject"]), []).append(row)
        told: dict[Key, list[page.Version]] = {key: [] for key in current}
        for key, now in current.items():
            for row in versions.get(key, [])[-MOST_VERSIONS:]:
                same = row["fingerprint"] == now.fingerprint
                then = now.vector if same else vectors.get(space, now.kind, row["fingerprint"]).vector
                told[key].append(
                    page.Version(
                        space=space,
                        made=row["created_at"],
                        fingerprint=row["fingerprint"],
                        current=same,
                        similarity=1.0 if same else _cosine(then, now.vector),
                        run=row["run_id"],
                        flow_run=row["flow_run_id"],
                    )
                )
        return told

    def _rows(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        return self.catalog.query(sql, parameters).records()

    @cached_property
    def _prompts(self) -> list[dict[str, Any]]:
        return self._rows("SELECT * FROM prompts ORDER BY created_at")

    @cached_property
    def _drift(self) -> dict[str, list[page.DriftCheck]]:
        """By model, oldest first. A model that changed has baselines of its own, also where their names are alike."""
        found: dict[str, list[page.DriftCheck]] = {}
        for row in self._rows(
            "SELECT model, model_ref, baseline, drifted, reasons, share, share_low, share_high, created_at FROM drift "
            "WHERE share IS NOT NULL "  # not of wires, which say no more than that a panel is to be read
            "QUALIFY row_number() OVER (PARTITION BY model ORDER BY created_at DESC) <= $most ORDER BY created_at",
            {"most": MOST_CHECKS},
        ):
            found.setdefault(row["model"], []).append(
                page.DriftCheck(
                    made=row["created_at"],
                    baseline=f"{row['model_ref']} {row['baseline']}",
                    drifted=row["drifted"],
                    reasons=row["reasons"] or (),
                    share=row["share"],
                    low=row["share_low"],
                    high=row["share_high"],
                )
            )
        return found

    def _prices_in(self, flow_run_id: str | None) -> Mapping[str, EndpointConfig]:
        """Endpoints with their prices as they were in a run; where it has no record, those of the run going on."""
        if flow_run_id not in self._past_prices:
            found = self._rows("SELECT settings FROM runs WHERE flow_run_id = $id", {"id": flow_run_id})
            endpoints = json.loads(found[0]["settings"] or "{}").get("endpoints", []) if found else []
            # Not checked again: an older study may hold what is refused by now, and only its prices are looked at.
            prices = ("usd_per_million_tokens_in", "usd_per_million_tokens_out")
            past = {
                e["id"]: EndpointConfig.model_construct(**{name: e.get(name) for name in prices}) for e in endpoints
            }
            self._past_prices[flow_run_id] = past if found else self.prices
        return self._past_prices[flow_run_id]


def _cosine(a: Any, b: Any) -> float:
    return float(a @ b / ((a @ a) * (b @ b)) ** 0.5)


def _made(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("version", card["fingerprint"]),
        ("first stored", f"{card['created_at']:%Y-%m-%d %H:%M UTC}"),
        ("MLflow run", card["run_id"] or ""),
        ("Prefect flow run", card["flow_run_id"] or ""),
        ("commit", card["git_commit"] or ""),
    ]


def _in_short(value: Any) -> str:
    text = _in_words(value)
    return text if len(text) <= FACT_CHARACTERS else f"{text[:FACT_CHARACTERS]} ..."


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_in_words(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_in_words(one) for one in value)
    return str(value)


def _known(facts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in facts if value]
