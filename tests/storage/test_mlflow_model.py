"""Models of an MLflow registry or run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from fute.config import MlflowModel
from fute.errors import ModelError
from fute.types import TextTable
from storage.mlflow_model import MlflowAnswerer

TEXTS = ["warm soup", "cold soup", "warm bread", "cold bread"]
TABLE = TextTable([*TEXTS, "warm tea"])


def answerer(model: str) -> MlflowAnswerer:
    return MlflowAnswerer(MlflowModel(kind="mlflow", id="m", model=model))


class Capitals(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str], params=None) -> list[str]:
        return ["long" if len(text) > 8 else "short" for text in model_input]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Two versions of a pipeline, and another model of a run; the alias `live` is on the first."""
    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        client = mlflow.MlflowClient()
        experiment = client.create_experiment("e", artifact_location=(folder / "files").as_uri())
        for labels in (["good", "bad"], ["a", "b"]):
            pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, labels * 2)
            with mlflow.start_run(experiment_id=experiment):
                mlflow.sklearn.log_model(pipeline, name="m", registered_model_name="taste", pip_requirements=[])
        client.set_registered_model_alias("taste", "live", 1)
        with mlflow.start_run(experiment_id=experiment):
            info = mlflow.pyfunc.log_model(name="own", python_model=Capitals(), pip_requirements=[])
        yield client, info
    mlflow.set_tracking_uri(before)


def test_a_version_of_a_pipeline_answers_with_its_probabilities(registry) -> None:
    outputs = answerer("models:/taste/1").outputs(TABLE).validate(5)
    assert outputs.kind == "probabilities"
    assert outputs.label_names == ("bad", "good")
    assert outputs.values.argmax(axis=1)[:4].tolist() == [1, 0, 1, 0]


def test_the_version_that_an_alias_stands_for_is_the_identity(registry) -> None:
    client, _ = registry
    first, second, live = (answerer(f"models:/taste{at}").fingerprint for at in ("/1", "/2", "@live"))
    assert first == live != second
    client.set_registered_model_alias("taste", "live", 2)
    assert answerer("models:/taste@live").fingerprint == second


def test_any_other_model_is_given_rows_as_a_data_frame(registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(given) -> list[str]:
        return ["old" if age > 40 else "young" for age in given["age"]]

    answering = answerer("models:/taste/1")
    # As if it were no pipeline.
    monkeypatch.setitem(vars(answering), "_info", SimpleNamespace(flavors={"python_function": {}}))
    monkeypatch.setitem(vars(answering), "_model", SimpleNamespace(predict=predict))
    rows = TextTable(['{"age": 30, "city": "Ulm"}', '{"age": 50, "city": "Bonn"}'], columns=("age", "city"))
    assert answering.outputs(rows).values.argmax(axis=1).tolist() == [1, 0]


def test_any_other_model_is_given_the_texts(registry) -> None:
    _, info = registry
    outputs = answerer(info.model_uri).outputs(TABLE)
    assert outputs.label_names == ("long", "short")
    assert outputs.values.argmax(axis=1).tolist() == [0, 0, 0, 0, 1]


def test_a_model_that_is_not_there_is_told(registry, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"m: MLflow has no models:/taste/9 at sqlite.*set MLFLOW_TRACKING_URI"):
        _ = answerer("models:/taste/9").fingerprint
