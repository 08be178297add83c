"""A model of an MLflow registry or run. Beside the tracker, for the library knows no MLflow."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import mlflow
import numpy as np

from fute.config import MlflowModel
from fute.errors import ModelError, foreign_code
from fute.fingerprint import fingerprint
from fute.models.answers import outputs_from_labels, outputs_from_numbers
from fute.models.sklearn_pipeline import data_frame, pipeline_outputs
from fute.types import Outputs, TextTable
from storage.tracker import shown, without_secrets


class MlflowAnswerer:
    """Told apart by what its address stands for now, so that an alias that moves on makes another model."""

    kind = "mlflow"

    def __init__(self, config: MlflowModel) -> None:
        self.id = config.id
        self._uri = config.model

    @cached_property
    def _info(self) -> Any:
        try:
            return mlflow.models.get_model_info(self._uri)
        except Exception as exc:  # of MLflow, of its server, of whatever holds the files
            uri = mlflow.get_tracking_uri()
            reason = without_secrets(str(exc), uri)
            raise ModelError(
                f"{self.id}: MLflow has no {self._uri} at {shown(uri)} ({reason}); set MLFLOW_TRACKING_URI to where it "
                "is, or name another version"
            ) from exc

    @property
    def fingerprint(self) -> str:
        return fingerprint(kind=self.kind, model_uuid=self._info.model_uuid)

    @cached_property
    def _model(self) -> Any:
        with foreign_code(self.id, "loading it"):
            load = mlflow.sklearn.load_model if "sklearn" in self._info.flavors else mlflow.pyfunc.load_model
            return load(self._uri)

    def outputs(self, table: TextTable) -> Outputs:
        if "sklearn" in self._info.flavors:
            return pipeline_outputs(self.id, self._model, table)
        with foreign_code(self.id, "its predict"):
            answers = self._model.predict(table.joined() if table.columns is None else data_frame(table))
            names = [str(name) for name in answers.columns] if hasattr(answers, "columns") else None
            answers = np.asarray(answers)
        if answers.ndim == 2 and answers.shape[1] > 1:
            return outputs_from_numbers(self.id, "probabilities", answers, len(table), names)
        return outputs_from_labels(self.id, answers.reshape(-1).tolist(), len(table))
