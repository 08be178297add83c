"""The parts of a study that a task on one model may need."""

from __future__ import annotations

from pydantic import BaseModel

from fute.config import BudgetConfig, EndpointConfig, PromptConfig, SurrogateConfig
from tasks.ingest import DatasetRef


class StudyParts(BaseModel):
    surrogate: SurrogateConfig
    datasets: dict[str, DatasetRef] = {}
    endpoints: dict[str, EndpointConfig] = {}
    prompts: dict[str, PromptConfig] = {}
    budget: BudgetConfig = BudgetConfig()
