"""What every task is told: where the store lies, whose run it is, and where the study's paths start.

Small and plain, for Prefect hashes and stores what is passed between tasks.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from fute.config import Study
from storage.stamp import Stamp
from storage.store import Store

P = ParamSpec("P")
T = TypeVar("T")


class Run(BaseModel):
    """One flow run over one study."""

    model_config = ConfigDict(frozen=True)

    study: str
    """Name of the study."""
    store: str
    """Folder of the store, or its URL."""
    base_dir: str
    """Folder that the study's relative paths start from."""
    seed: int
    run_id: str | None = None
    """MLflow run."""
    flow_run_id: str | None = None
    """Prefect flow run."""
    session: str = Field(default_factory=lambda: uuid.uuid4().hex)
    """Tells runs apart that have neither id, since each has budgets of its own. Copied with the run."""

    scattered: bool = False
    """Whether tasks run in other processes than the flow, so that each has to look what others have stored."""

    go_on: bool = False
    """Whether a model whose answers are all the same is asked on."""

    @classmethod
    def of(cls, study: Study, **more: Any) -> Run:
        """A run over a study."""
        folder = str(study.base_dir)
        return cls(study=study.name, store=study.store_address, base_dir=folder, seed=study.seed, **more)

    @property
    def account(self) -> str:
        """Whose budgets its calls count to."""
        return self.flow_run_id or self.run_id or self.session

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.run_id, self.flow_run_id)

    @property
    def stop_sign(self) -> Path:
        """A file that is there once the run is being stopped, for its tasks in other processes that see this folder."""
        return Store(self.store).scratch.root / f"stop-{self.session}"

    @property
    def folder(self) -> Path:
        return Path(self.base_dir)

    def open_store(self) -> Store:
        if self.scattered:
            from prefect.runtime import task_run

            if task := task_run.id:
                _pull(self.store, str(task))
        return Store(self.store)


@lru_cache(maxsize=256)
def _pull(store: str, task: str) -> None:
    """Once in a task: others do not write what a running one is to read."""
    Store(store).pull()


def handed_in(function: Callable[Concatenate[Run, P], T]) -> Callable[Concatenate[Run, P], T]:
    """Of a task that may run on another machine than its flow: what it made is pushed when it ends, however it ends."""

    @wraps(function)
    def then_push(run: Run, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(run, *args, **kwargs)
        finally:
            if run.scattered:
                Store(run.store).push()

    return then_push


class Failure(BaseModel):
    """One thing of many that did not work."""

    subject: str
    stage: str
    reason: str
