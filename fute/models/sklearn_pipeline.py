"""A fitted scikit-learn pipeline that takes texts."""

from __future__ import annotations

from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fute.config import SklearnModel
from fute.entry_point import check_call, entry_point_identity, load_entry_point
from fute.errors import ModelError, foreign_code
from fute.fingerprint import fingerprint
from fute.models.answers import outputs_from_labels, outputs_from_numbers
from fute.types import Outputs, TextTable


class SklearnPipeline:
    """A pipeline asked for probabilities, else decision values, else predictions.

    Text pairs reach it as one string, text and pair joined by " [SEP] " (TextTable.joined).

    The function that returns it is loaded and called once, when the pipeline is first needed.
    """

    kind = "sklearn"

    def __init__(self, config: SklearnModel, base_dir: Path) -> None:
        self.id = config.id
        self._config = config
        self._base_dir = base_dir
        self._identity = entry_point_identity(config.entry_point, base_dir)

    @property
    def fingerprint(self) -> str:
        return fingerprint(
            kind=self.kind,
            function=self._identity,
            settings=self._config.identity(exclude={"id", "task", "kind"}),
            sklearn=version("scikit-learn"),  # the function may fit the pipeline anew, and versions fit differently
        )

    @cached_property
    def pipeline(self) -> Any:
        """The fitted pipeline.

        Raises:
            ConfigError: there is no such function.
            ModelError: the function raised, returned something that cannot predict, or a pipeline not fitted.
        """
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        make_pipeline = load_entry_point(self._config.entry_point, self._base_dir)
        hint = ", which returns the fitted pipeline (a function that answers texts itself is `kind: python`)"
        check_call(self.id, make_pipeline, (), self._config.kwargs, hint)
        with foreign_code(self.id, "its function"):
            pipeline = make_pipeline(**self._config.kwargs)
        if not hasattr(pipeline, "predict"):
            raise ModelError(
                f"{self.id}: {self._config.entry_point} returned {type(pipeline).__name__}, which has no predict; "
                "return a fitted scikit-learn pipeline"
            )
        with foreign_code(self.id, "its pipeline"):
            try:
                check_is_fitted(pipeline)
            except NotFittedError as exc:
                raise ModelError(
                    f"{self.id}: {self._config.entry_point} returned a pipeline that is not fitted; fit it, or load "
                    "a fitted one, before returning it"
                ) from exc
        return pipeline

    def outputs(self, table: TextTable) -> Outputs:
        return pipeline_outputs(self.id, self.pipeline, table)


def pipeline_outputs(model_id: str, pipeline: Any, table: TextTable) -> Outputs:
    """What a fitted pipeline answers: probabilities, else decision values, else predictions."""
    from sklearn.base import is_regressor

    texts, n = table.joined(), len(table)
    classes = getattr(pipeline, "classes_", None)
    names = None if classes is None else [str(name) for name in classes]
    if hasattr(pipeline, "predict_proba"):
        with foreign_code(model_id, "its predict_proba"):
            return outputs_from_numbers(model_id, "probabilities", pipeline.predict_proba(texts), n, names)
    if hasattr(pipeline, "decision_function"):
        with foreign_code(model_id, "its decision_function"):
            scores = pipeline.decision_function(texts)
            # Two classes have one column, high for the second class: it stands for neither name alone, and
            # one-against-one machines have a column for each pair of classes.
            fits = names is not None and getattr(scores, "ndim", 0) == 2 and scores.shape[1] == len(names)
            return outputs_from_numbers(model_id, "scores", scores, n, names if fits else None)
    with foreign_code(model_id, "its predict"):
        predictions = pipeline.predict(texts)
        if is_regressor(pipeline):
            return outputs_from_numbers(model_id, "scores", predictions, n)
        return outputs_from_labels(model_id, predictions, n, names)
