"""A fitted scikit-learn pipeline that takes texts, or rows of a table."""

from __future__ import annotations

import json
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fute.config import SklearnModel
from fute.did_you_mean import listed
from fute.entry_point import check_call, entry_point_identity, load_entry_point
from fute.errors import ModelError, foreign_code
from fute.fingerprint import fingerprint
from fute.models.answers import outputs_from_labels, outputs_from_numbers
from fute.rows import arrays_of
from fute.types import Outputs, TextTable

OFF_ONE = 1e-3  # of a sum of probabilities, as Outputs.validate allows


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


def _read_by(model_id: str, pipeline: Any, table: TextTable) -> Any:
    """What a pipeline is given: texts; or rows of a table, as a data frame of the columns that it was fitted with, or
    where it was fitted without names all columns side by side, each value of a list a column of its own."""
    if table.columns is None:
        return table.joined()
    arrays = arrays_of(table)
    names = getattr(pipeline, "feature_names_in_", None)
    if names is None:
        side_by_side = np.hstack([values.reshape(len(table), -1) for values in arrays.values()])
        fitted, there = getattr(pipeline, "n_features_in_", None), side_by_side.shape[1]
        if fitted is not None and fitted != there:
            raise ModelError(
                f"{model_id}: it was fitted on an array of {fitted} columns, and a row of the pool has {there} "
                f"({listed(table.columns, 30)}); fit it on a data frame, whose columns have names"
            )
        return side_by_side
    if missing := [name for name in names if name not in arrays]:
        raise ModelError(
            f"{model_id}: it was fitted with the column {missing[0]!r}, which is none of the pool's: "
            f"{listed(table.columns, 30)}; name it in `columns`"
        )
    return data_frame(table)[list(names)]


def data_frame(table: TextTable) -> Any:
    """The rows of a table as a data frame of pandas, whole numbers and booleans as such."""
    import pandas as pd

    return pd.DataFrame.from_records([json.loads(text) for text in table.texts], columns=list(table.columns or ()))


def pipeline_outputs(model_id: str, pipeline: Any, table: TextTable) -> Outputs:
    """What a fitted pipeline answers: probabilities, else decision values, else predictions.

    Of several outputs at once (labels that may all be true, several numbers): scores, of each output a column for each
    class but its first.
    """
    from sklearn.base import is_regressor

    texts, n = _read_by(model_id, pipeline, table), len(table)
    classes = getattr(pipeline, "classes_", None)
    # A list of classes for each output: of several at once.
    names = None if classes is None or isinstance(classes, list) else [str(name) for name in classes]
    if hasattr(pipeline, "predict_proba"):
        with foreign_code(model_id, "its predict_proba"):
            probabilities = pipeline.predict_proba(texts)
            # Of several outputs, each output's classes add up to one, so that one is spared.
            if isinstance(probabilities, list):
                return outputs_from_numbers(model_id, "scores", np.hstack([p[:, 1:] for p in probabilities]), n)
            # Those of classes add up to one; of labels that may all be true they do not, but for some by chance.
            several = getattr(pipeline, "multilabel_", False) or (
                np.ndim(probabilities) == 2 and np.abs(np.sum(probabilities, axis=1) - 1).max(initial=0) > OFF_ONE
            )
            return outputs_from_numbers(model_id, "scores" if several else "probabilities", probabilities, n, names)
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
        if getattr(predictions, "ndim", 1) == 2:
            shown = [(column[:, None] == np.unique(column)[1:]).astype(np.float32) for column in predictions.T]
            return outputs_from_numbers(model_id, "scores", np.hstack(shown), n)
        return outputs_from_labels(model_id, predictions, n, names)
