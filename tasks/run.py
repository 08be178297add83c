"""What every task is told: where the store lies, whose run it is, and where the study's paths start.

Small and plain, for Prefect hashes and stores what is passed between tasks.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from storage.stamp import Stamp
from storage.store import Store


class Run(BaseModel):
    """One flow run over one study."""

    model_config = ConfigDict(frozen=True)

    study: str
    """Name of the study."""
    store: str
    """Folder of the store."""
    base_dir: str
    """Folder that the study's relative paths start from."""
    seed: int
    run_id: str | None = None
    """MLflow run."""
    flow_run_id: str | None = None
    """Prefect flow run."""

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.run_id, self.flow_run_id)

    @property
    def folder(self) -> Path:
        return Path(self.base_dir)

    def open_store(self) -> Store:
        return Store(self.store)


class Failure(BaseModel):
    """One thing of many that did not work."""

    subject: str
    stage: str
    reason: str
