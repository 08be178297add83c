"""The parts of a study that a task on one model may need."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from fute.config import BudgetConfig, EndpointConfig, PromptConfig, Study, SurrogateConfig
from fute.surrogate.identity import resolve_dtype
from tasks.ingest import DatasetRef


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
