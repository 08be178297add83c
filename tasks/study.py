"""The parts of a study that a task on one model may need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from fute.config import BudgetConfig, DatasetConfig, EndpointConfig, Method, PromptConfig, Study, SurrogateConfig
from fute.data.ingest import dataset_fingerprint
from fute.surrogate.identity import resolve_dtype
from fute.surrogate.vectors import NONE
from storage.store import Store, to_json
from tasks.run import Run


class DatasetRef(BaseModel):
    """A dataset in the store."""

    id: str
    ref: str
    task: str
    reused: bool


def dataset_ref(run: Run, config: DatasetConfig, store: Store) -> DatasetRef:
    """A dataset by its fingerprint, known before its rows are read; and whether the store has it."""
    ref = f"{config.id}@{dataset_fingerprint(config, run.folder, run.seed)}"
    return DatasetRef(id=config.id, ref=ref, task=config.task, reused=store.has_dataset(ref))


class StudyParts(BaseModel):
    surrogate: SurrogateConfig
    datasets: dict[str, DatasetRef] = {}
    endpoints: dict[str, EndpointConfig] = {}
    prompts: dict[str, PromptConfig] = {}
    budget: BudgetConfig = BudgetConfig()


def parts_of(study: Study, datasets: Iterable[DatasetRef] = ()) -> StudyParts:
    """The parts of a study, with the surrogate's dtype decided here: tasks may run where it would be another.

    Raises:
        SurrogateError: dtype is auto, and this machine lacks the surrogate's device.
    """
    return StudyParts(
        surrogate=resolve_dtype(study.surrogate),
        datasets={d.id: d for d in datasets},
        endpoints={e.id: e for e in study.endpoints},
        prompts={p.id: p for p in study.prompts},
        budget=study.budget,
    )


def surrogate_of(method: Method, config: SurrogateConfig) -> SurrogateConfig:
    """The surrogate of a method's space: the study's, or none."""
    return config if method.needs_surrogate else SurrogateConfig(model=NONE)


def prompt_row(prompt: PromptConfig) -> dict[str, Any]:
    """A prompt as the store keeps it."""
    return {
        "id": prompt.id,
        "template": prompt.template,
        "system": prompt.system,
        "verbalizer": to_json(prompt.verbalizer),
        "cot": prompt.cot,
        "follow_up": prompt.follow_up,
        "answer": prompt.answer,
        "parse": prompt.parse,
    }
