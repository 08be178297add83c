"""Rows that are no texts: kept as JSON, given back as values, scaled to features, and read by scikit-learn's models."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.svm import LinearSVC

from fute.config import DatasetConfig, PoolConfig, PythonModel, SurrogateConfig
from fute.data.ingest import dataset_fingerprint, ingest
from fute.data.pool import build_pool
from fute.data.snapshot import dataset_from_tables, dataset_to_tables, pool_from_table, pool_to_table
from fute.errors import DataError, ModelError, SurrogateError
from fute.models.python_callable import PythonCallable
from fute.models.sklearn_pipeline import pipeline_outputs
from fute.rows import arrays_of, row_texts, rows_of
from fute.surrogate.identity import surrogate_identity
from fute.surrogate.vectors import vector_features
from fute.types import Pool, TextTable
from fute.unify.pseudo_tasks import pseudo_tasks

COLUMNS = ("size", "colour", "image")
ROWS: dict[str, list[Any]] = {
    "size": [1.5, 2.0, None, float("nan"), -4],
    "colour": ["red", "blue", "red", None, None],
    "image": [[[0, 1], [2, 3.5]], [[1, 1], [1, 1]], [[2, 0], [0, 1]], None, [[9, 9], [9, 9]]],
}


def table(rows: dict[str, list[Any]] = ROWS) -> TextTable:
    texts = row_texts(pa.table(rows), list(rows), "there")
    return TextTable([text for text in texts if text], columns=tuple(rows))


def test_a_row_is_json_of_its_columns_and_comes_back_as_values() -> None:
    texts = row_texts(pa.table(ROWS), COLUMNS, "there")
    assert texts[:2] == [
        '{"size": 1.5, "colour": "red", "image": [[0, 1], [2, 3.5]]}',
        '{"size": 2, "colour": "blue", "image": [[1, 1], [1, 1]]}',
    ]
    assert texts[3] is None
    assert rows_of(table())[2] == {"size": None, "colour": "red", "image": [[2, 0], [0, 1]]}
    assert rows_of(table({"image": ROWS["image"][:2]})) == [[[0, 1], [2, 3.5]], [[1, 1], [1, 1]]]
    arrays = arrays_of(table())
    assert arrays["image"].shape == (4, 2, 2)
    np.testing.assert_array_equal(arrays["size"], [1.5, 2, np.nan, -4])
    assert arrays["colour"].tolist() == ["red", "blue", "red", None]


@pytest.mark.parametrize(("value", "what"), [(float("inf"), "infinity"), (date(2026, 1, 1), "date"), (b"\0", "bytes")])
def test_what_is_no_value_of_a_row_is_refused(value: Any, what: str) -> None:
    with pytest.raises(DataError, match=f"there: column 'a' holds {what}; a row has numbers"):
        row_texts(pa.table({"a": pa.array([value])}), ["a"], "there")


def test_rows_are_another_input_than_their_json() -> None:
    rows = table()
    assert rows.fingerprint != TextTable(rows.texts).fingerprint
    assert rows.take([1]).columns == COLUMNS == rows.followed_by(rows).columns


def parquet(folder: Path, name: str, **columns: Any) -> dict[str, str]:
    pq.write_table(pa.table(columns), folder / name)
    return {"files": str(folder / name)}


def test_pools_and_datasets_are_read_from_columns_and_stored_without_loss(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(size=40)
    one = parquet(tmp_path, "one.parquet", a=[*a, a[0], None], b=[*b, b[0], None], label=[*(a > 0), True, True])
    config = DatasetConfig.model_validate(
        {"id": "d", "data": one, "columns": ["a", "b"], "label": "label", "skip_bad_rows": True}
    )
    dataset = ingest(config, tmp_path, 0)
    assert dataset.report["splits"]["train"]["left_out"] == {"null": 1, "duplicate": 1}
    assert dataset.fingerprint == dataset_fingerprint(config, tmp_path, 0)
    np.testing.assert_array_equal(arrays_of(dataset.train.inputs)["a"], a)
    again = dataset_from_tables(dataset_to_tables(dataset))
    assert again.train.inputs.columns == ("a", "b")
    # Signs and points are all that tells numbers apart, and a text's normalised form has neither.
    two = parquet(tmp_path, "two.parquet", a=[*-a[:10], a[3], None], b=[*b[:10], b[3], None])
    sources = [{"data": two, "columns": ["a", "b"]}]
    pool = build_pool(PoolConfig.model_validate({"sources": sources}), tmp_path, 0, [dataset])
    assert pool.report["left_out"] == {"evaluated_exact": 1, "evaluated_normalised": 0, "duplicate": 0, "empty": 1}
    assert len(pool) == 10
    assert pool_from_table(pool_to_table(pool)).inputs.columns == ("a", "b")
    with pytest.raises(DataError, match="1 row without a value in any of `columns`"):
        ingest(config.model_copy(update={"skip_bad_rows": False}), tmp_path, 0)


def test_a_dataset_of_texts_keeps_the_identity_that_it_had() -> None:
    config = DatasetConfig.model_validate({"id": "d", "data": {"files": "x.csv"}})
    assert "columns" not in config.identity()
    assert "columns" in config.model_copy(update={"columns": ["a"]}).identity()


def test_own_values_are_scaled_by_the_pool_and_tell_rows_of_one_direction_apart() -> None:
    pool = Pool(table({"a": [0.0, 100.0, 200.0, None], "b": [1, 1, 1, 1], "c": ["x", "y", "x", "z"]}), ["s"] * 4)
    found = vector_features("vectors", Path(), pool)(pool.inputs)
    scaled = (np.array([0, 100, 200, 100]) - 100) / np.std([0, 100, 200])
    one_hot = [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(found, np.column_stack([scaled, one_hot, [2] * 4]), atol=1e-6)
    others = table({"a": [300.0], "b": [5], "c": ["new"]})
    np.testing.assert_allclose(
        vector_features("vectors", Path(), pool)(others), [[200 / np.std([0, 100, 200]), 0, 0, 0, 2]], atol=1e-5
    )
    with pytest.raises(SurrogateError, match="no rows of the pool's columns"):
        vector_features("vectors", Path(), pool)(table({"b": [1], "a": [1.0], "c": ["x"]}))


def test_a_model_that_reads_texts_is_given_no_rows() -> None:
    from fute.surrogate.features import compute_features
    from fute.surrogate.load import load_surrogate

    with pytest.raises(SurrogateError, match="reads texts, and the inputs are rows of a table"):
        compute_features(load_surrogate(SurrogateConfig(), Path()), table())
    with pytest.raises(SurrogateError, match="'vectors' is no model that reads texts"):
        load_surrogate(SurrogateConfig(model="vectors"), Path())


def test_ids_and_paths_give_no_features() -> None:
    pool = Pool(table({"path": [f"{i}.png" for i in range(40)]}), ["s"] * 40)
    assert vector_features("none", Path(), pool)(pool.inputs).shape == (40, 1)
    assert not list(pseudo_tasks(pool, vector_features("none", Path(), pool)(pool.inputs), 9, 0))


def test_own_features_are_found_by_what_the_input_says(tmp_path: Path) -> None:
    paths, vectors = ["a.png", "b.png", "c.png"], [[1.0, 0], [0, 1], [1, 1]]
    parquet(tmp_path, "features.parquet", path=paths, text=paths, vector=vectors)
    for inputs in (table({"path": paths}), TextTable(paths)):
        pool = Pool(inputs, ["s"] * 3)
        features = vector_features("vectors:features.parquet", tmp_path, pool)
        np.testing.assert_array_equal(features(inputs.take([2, 0])), [[1, 1], [1, 0]])
    with pytest.raises(SurrogateError, match=r"no vector of 1 of 2 inputs \('d.png'"):
        features(TextTable(["d.png", "a.png"]))
    config = SurrogateConfig(model="vectors:features.parquet")
    before = surrogate_identity(config, tmp_path)
    parquet(tmp_path, "features.parquet", path=paths, text=paths, vector=[[2.0, 0], [0, 1], [1, 1]])
    assert surrogate_identity(config, tmp_path)["revision"] != before["revision"]


@pytest.mark.parametrize(
    ("columns", "what"),
    [({"text": ["a"]}, "vector"), ({"text": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]}, "a list of as many numbers")],
)
def test_a_file_without_vectors_says_what_it_should_hold(tmp_path: Path, columns: Any, what: str) -> None:
    parquet(tmp_path, "features.parquet", **columns)
    with pytest.raises(SurrogateError, match=what):
        vector_features("vectors:features.parquet", tmp_path, Pool(TextTable(["a"]), ["s"]))


def test_texts_have_no_values_of_their_own_but_words_for_pseudo_tasks() -> None:
    texts = [f"{a} {b} {c}" for a in ("red", "blue", "green") for b in ("cat", "dog") for c in range(4)]
    pool = Pool(TextTable(texts), ["s"] * len(texts))
    with pytest.raises(SurrogateError, match="name `columns` of its sources, or a file"):
        vector_features("vectors", Path(), pool)
    found = vector_features("none", Path(), pool)(pool.inputs)
    np.testing.assert_allclose(found, vector_features("none", Path(), pool)(pool.inputs), atol=1e-6)
    assert found.shape[0] == len(texts)


# ---------------------------------------------------------------------------------------------------------- models


def numbers(n: int = 60) -> TextTable:
    rng = np.random.default_rng(1)
    return table({"a": rng.normal(size=n).tolist(), "b": rng.normal(size=n).tolist(), "c": rng.normal(size=n).tolist()})


def test_a_pipeline_is_given_the_columns_that_it_was_fitted_with_in_its_order() -> None:
    pd = pytest.importorskip("pandas")
    rows = numbers()
    frame = pd.DataFrame(arrays_of(rows))
    fitted = LogisticRegression().fit(frame[["c", "a"]], frame["a"] > 0)
    found = pipeline_outputs("m", fitted, rows)
    np.testing.assert_allclose(found.values, fitted.predict_proba(frame[["c", "a"]]), atol=1e-6)
    with pytest.raises(ModelError, match="fitted with the column 'c', which is none of the pool's: a, b"):
        pipeline_outputs("m", fitted, table({"a": [1.0, 2.0], "b": [1.0, 2.0]}))
    images = table({"image": np.random.default_rng(0).normal(size=(30, 2, 2)).tolist()})
    plain = LogisticRegression().fit(arrays_of(images)["image"].reshape(30, 4), np.arange(30) % 2)
    assert pipeline_outputs("m", plain, images).values.shape == (30, 2)


def test_several_labels_at_once_are_scores() -> None:
    rows = numbers()
    x = np.column_stack(list(arrays_of(rows).values()))
    labels = np.column_stack([x[:, 0] > 0, x[:, 1] > 0, x[:, 2] > 0]).astype(int)
    forest = RandomForestClassifier(5, random_state=0).fit(x, labels)
    chained = OneVsRestClassifier(LogisticRegression()).fit(x, labels)
    hard = MultiOutputClassifier(LinearSVC()).fit(x, labels)
    for model in (forest, chained, hard):
        found = pipeline_outputs("m", model, rows).validate(len(rows))
        assert (found.kind, found.values.shape) == ("scores", (60, 3))
        assert ((found.values > 0.5) == labels).mean() > 0.9
    three = np.column_stack([np.digitize(x[:, 0], [-0.5, 0.5]), labels[:, 1]])
    assert pipeline_outputs("m", MultiOutputClassifier(LinearSVC()).fit(x, three), rows).values.shape == (60, 3)


def test_numbers_of_several_outputs_are_scores() -> None:
    rows = numbers()
    x = np.column_stack(list(arrays_of(rows).values()))
    found = pipeline_outputs("m", LinearRegression().fit(x, x[:, :2] ** 2), rows).validate(len(rows))
    assert (found.kind, found.values.shape) == ("scores", (60, 2))


def test_a_function_is_given_rows(tmp_path: Path) -> None:
    (tmp_path / "own_rows_model.py").write_text(
        "def above(texts, pairs):\n    return [row['a'] > row['b'] for row in texts]\n"
    )
    config = PythonModel(kind="python", id="m", entry_point="own_rows_model:above", outputs="labels")
    found = PythonCallable(config, tmp_path).outputs(numbers())
    arrays = arrays_of(numbers())
    np.testing.assert_array_equal(found.values[:, 1] == 1, arrays["a"] > arrays["b"])


def test_a_float_of_32_bits_and_an_empty_text_are_what_a_csv_has_of_them() -> None:
    single = pa.float32()
    short = pa.table(
        {"a": pa.array([0.1, None], single), "b": ["", "x"], "c": pa.array([[0.1], [2]], pa.list_(single))}
    )
    assert row_texts(short, ["a", "b", "c"], "there") == [
        '{"a": 0.1, "b": null, "c": [0.1]}',
        '{"a": null, "b": "x", "c": [2]}',
    ]


@pytest.mark.parametrize(("of_pool", "here"), [(["1", "A"], [1, 2]), ([1, 2], ["1", "A"])])
def test_a_column_of_numbers_here_and_of_texts_there_is_refused(of_pool: list, here: list) -> None:
    pool = Pool(table({"grade": of_pool, "x": [1, 2]}), ["a", "a"])
    features = vector_features("vectors", Path(), pool)
    with pytest.raises(SurrogateError, match=r"column 'grade' holds (texts|numbers) in the pool, and here"):
        features(table({"grade": here, "x": [1, 2]}))
    assert features(table({"grade": [None, None], "x": [1, 2]})).shape == features(pool.inputs).shape


def test_a_model_fitted_on_an_array_of_other_columns_is_told_so() -> None:
    model = LogisticRegression().fit(np.arange(12.0).reshape(4, 3), [0, 0, 1, 1])
    with pytest.raises(ModelError, match=r"fitted on an array of 3 columns, and a row of the pool has 2 \(a, b\)"):
        pipeline_outputs("m", model, table({"a": [1, 2], "b": [3, 4]}))
