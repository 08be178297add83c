"""Inputs that are no texts, from the study file to verdicts: the worked examples of docs/rows.md, made small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from flows.pipeline import pipeline
from flows.unchanged import run_unchanged
from fute.check_study import check_reused, check_study
from fute.errors import ConfigError
from fute.load_study import load_study, study_from_mapping
from fute.types import Pool, TextTable
from storage import catalog
from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


def small(folder: Path, example: str, models: list[str], **changes: Any) -> Path:
    """An example with some of its models, in a folder of its own."""
    for file in EXAMPLES.glob("*.py"):
        shutil.copy(file, folder)
    study = yaml.safe_load((EXAMPLES / f"{example}.yaml").read_text())
    study |= {"store": "store", "tracking": {"enabled": False}, **changes}
    study["models"] = [m for m in study["models"] if m["id"] in models]
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder / "study.yaml"


def nearest(study: Path, method: str, kind: str) -> dict[str, str]:
    rows = catalog.query(
        study.parent / "store",
        "SELECT query, candidate FROM neighbors JOIN spaces USING (space) "
        "WHERE method = $method AND query_kind = $kind AND candidate_kind = 'model' AND rank = 1",
        {"method": method, "kind": kind},
    ).rows
    return dict(rows)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = [f"{question}/{make}" for question in ("parity", "half", "seven") for make in ("linear", "bayes")]
    study = small(tmp_path_factory.mktemp("digits"), "digits", [*models, "ink"])
    settings = yaml.safe_load(study.read_text())
    settings["datasets"] = [d for d in settings["datasets"] if d["id"] in ("parity", "half", "seven")]
    settings["pool"] |= {"rows_per_source": 240}
    settings["methods"] = [{"method": "crosscov", "bootstrap": 10}, {"method": "outputs", "dim": 4096}]
    study.write_text(yaml.safe_dump(settings))
    assert pipeline(str(study), return_state=True).is_completed()
    return study


@pytest.mark.parametrize("method", ["crosscov", "outputs"])
def test_models_that_see_the_same_in_images_are_nearest(digits: Path, method: str) -> None:
    near = nearest(digits, method, "model")
    assert {m: n for m, n in near.items() if m != "ink" and n.partition("/")[0] != m.partition("/")[0]} == {}
    assert len(near) == 7


def test_a_dataset_of_images_finds_the_models_of_its_question_through_the_rows_own_numbers(digits: Path) -> None:
    near = nearest(digits, "crosscov", "dataset")
    assert {d: n.partition("/")[0] for d, n in near.items()} == {"parity": "parity", "half": "half", "seven": "seven"}
    assert nearest(digits, "outputs", "dataset") == {}


def test_verdicts_on_images_tell_classifiers_from_what_is_none(digits: Path) -> None:
    rows = catalog.query(
        digits.parent / "store",
        "SELECT query = 'ink', verdict FROM neighbors "
        "WHERE query_kind = 'model' AND candidate_kind = 'model' AND rank = 1",
    ).rows
    assert {verdict for ink, verdict in rows if ink} == {"nothing"}
    assert {verdict for ink, verdict in rows if not ink} <= {"fits", "may fit"}


def test_rows_and_spaces_are_told_in_sql(digits: Path) -> None:
    store = digits.parent / "store"
    assert sorted(catalog.query(store, "SELECT method, surrogate FROM spaces").rows) == [
        ("crosscov", "vectors"),
        ("outputs", "none"),
    ]
    ((text,),) = catalog.query(store, "SELECT text FROM pool_rows WHERE row = 0").rows
    assert np.array(json.loads(text)["image"]).shape == (8, 8)
    assert catalog.query(store, "SELECT * FROM accuracies").rows == []


def test_a_second_run_has_nothing_to_do(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.unchanged.reports_to_a_server", lambda: False)
    assert run_unchanged(load_study(digits)) is not None


def test_a_table_has_models_of_several_labels_and_of_numbers(tmp_path: Path) -> None:
    study = small(
        tmp_path,
        "tumours",
        ["rough/linear", "rough/forest", "large/linear", "several", "area"],
        methods=[{"method": "outputs"}],
        surrogate={"model": "none"},
        unify={"frame": "none"},
    )
    settings = yaml.safe_load(study.read_text())
    settings["pool"] |= {"exclude_evaluated": False}
    settings["pool"]["sources"][0]["data"] = {
        "source": "python",
        "entry_point": "tumours:part",
        "kwargs": {"number": 1},
    }
    settings["datasets"] = [d for d in settings["datasets"] if d["id"] in ("rough", "large")]
    study.write_text(yaml.safe_dump(settings))
    assert pipeline(str(study), return_state=True).is_completed()
    assert nearest(study, "outputs", "dataset") == {}  # a dataset has no answers
    near = nearest(study, "outputs", "model")
    assert near["rough/linear"] == "rough/forest"
    assert near["area"] == "large/linear"
    kinds = catalog.query(study.parent / "store", "SELECT model, len(any_value(values)) FROM outputs GROUP BY 1").rows
    assert {name.partition("@")[0]: width for name, width in kinds} == {
        "rough/linear": 2, "rough/forest": 2, "large/linear": 2, "several": 3, "area": 1,
    }  # fmt: skip


# ------------------------------------------------------------------------------------- what is refused before a run


def problems(tmp_path: Path, **changes: Any) -> str:
    columns = {"a": [float(i) for i in range(40)], "b": [1.5] * 40, "label": ["x", "y"] * 20}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    source = {"data": {"files": "rows.parquet"}, "columns": ["a", "b"]}
    fields = {
        "name": "rows",
        "pool": {"sources": [source]},
        "datasets": [{"id": "d", **source}],
        "surrogate": {"model": "vectors"},
        **changes,
    }
    try:
        check_study(study_from_mapping(fields, tmp_path))
    except ConfigError as exc:
        return str(exc)
    return ""


NO_ROWS = {"models": [{"kind": "python", "id": "m", "entry_point": "gone:f"}]}
FREE = {"id": "p", "template": "{{text}}", "answer": "text"}
ASKED = {
    "methods": [{"method": "outputs"}],
    "prompts": [{"id": "p", "template": "{{text}}?", "verbalizer": {"x": ["x"], "y": ["y"]}}],
    "endpoints": [{"id": "e", "model": "m", "base_url": "http://127.0.0.1:1/v1", "api_key_env": None}],
    "models": [{"kind": "prompt", "prompt": "*", "endpoint": "*", "ask": 50}],
}


def test_a_pool_of_rows_that_is_reused_is_given_to_nobody_who_reads_texts(tmp_path: Path) -> None:
    pool = Pool(TextTable(['{"a": 1}'], columns=("a",)), ["s"])
    other = {"data": {"files": "texts.parquet"}}
    fields = {"name": "rows", "pool": {"reuse": "ab", "sources": [other]}, "methods": [{"method": "outputs"}]}
    able = {"kind": "python", "id": "able", "entry_point": "own:f"}
    check_reused(study_from_mapping({**fields, "models": [able]}, tmp_path), pool)
    unable = {"kind": "transformers", "id": "unable", "model": "bert"}
    with pytest.raises(ConfigError, match="rows of a, and model unable reads others"):
        check_reused(study_from_mapping({**fields, "models": [able, unable]}, tmp_path), pool)


def test_a_study_of_rows_is_in_order(tmp_path: Path) -> None:
    assert problems(tmp_path) == ""
    assert problems(tmp_path, surrogate={"model": "none"}, methods=[{"method": "outputs"}]) == ""
    assert problems(tmp_path, surrogate={}, methods=[{"method": "outputs"}]) == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"surrogate": {}}, "reads texts, and the inputs are rows; set it to vectors"),
        ({"surrogate": {"model": "none"}}, "none is no model, and crosscov needs one; use method outputs"),
        ({"methods": [{"method": "tupate"}]}, "vectors is no model, and tupate needs one; use crosscov or outputs"),
        ({"surrogate": {"model": "vectors:gone.parquet"}}, "there is no file"),
        (
            {"datasets": [{"id": "d", "columns": ["b", "a"], "data": {"files": "rows.parquet"}}]},
            "datasets (d) has the columns b, a, another input",
        ),
        (
            {"datasets": [{"id": "d", "text": "a", "data": {"files": "rows.parquet"}}]},
            "datasets (d) reads texts, another input a, b",
        ),
        (
            {"datasets": [{"id": "d", "columns": ["a", "label"], "data": {"files": "rows.parquet"}}]},
            "'label' is one of `columns`, which every model is shown",
        ),
        (
            {"datasets": [{"id": "d", "columns": ["a", "z"], "data": {"files": "rows.parquet"}}]},
            "no column 'z'",
        ),
        (
            {"models": [{"kind": "transformers", "id": "m", "model": "bert"}]},
            "kind transformers reads texts, and the inputs are rows; use sklearn, python, mlflow",
        ),
        (
            {"pool": {"sources": [{"data": {"files": "rows.parquet"}, "text": "label"}]}, "datasets": [], **NO_ROWS},
            "vectors takes values of the pool's `columns`, and it has texts",
        ),
        (
            {
                "surrogate": {"model": "none"},
                **ASKED,
                "prompts": [{"id": "p", "template": "{{text}}", "answer": "text"}],
            },
            "answers in free text (p) are read by one",
        ),
        ({**ASKED}, "models[0].ask: method outputs compares answers to all rows of the pool"),
    ],
)
def test_what_does_not_go_together_is_told_before_a_run(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    assert told in problems(tmp_path, **changes)


# --------------------------------------------------------------------------------- paths, with features of one's own


OPENED = '''
"""Models of files: each opens what a path names."""
import numpy as np


def bright(texts, pairs, above):
    images = np.array([np.load(path) for path in texts])
    return [[float(v > above), float(v <= above)] for v in images.mean(axis=1)]


def rising(texts, pairs, above):
    images = np.array([np.load(path) for path in texts])
    return [[float(v > above), float(v <= above)] for v in images[:, -1] - images[:, 0]]
'''


def test_files_named_by_paths_are_embedded_through_features_of_ones_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(120, 6))
    paths = [str(tmp_path / f"{i}.npy") for i in range(120)]
    for path, image in zip(paths, images, strict=True):
        np.save(path, image)
    (tmp_path / "opened.py").write_text(OPENED)
    pq.write_table(pa.table({"path": paths, "vector": images.tolist()}), tmp_path / "features.parquet")
    pq.write_table(pa.table({"path": paths[:80]}), tmp_path / "pool.parquet")
    labels = np.where(images[80:].mean(axis=1) > 0, "bright", "dark")
    pq.write_table(pa.table({"path": paths[80:], "label": labels.tolist()}), tmp_path / "labelled.parquet")
    study = {
        "name": "paths",
        "pool": {"sources": [{"data": {"files": "pool.parquet"}, "columns": ["path"]}], "rows_per_source": 80},
        "datasets": [{"id": "brightness", "data": {"files": "labelled.parquet"}, "columns": ["path"]}],
        "surrogate": {"model": "vectors:features.parquet"},
        "methods": [{"method": "crosscov", "bootstrap": 10}, {"method": "outputs"}],
        "unify": {"frame": "none"},
        "models": [
            {
                "kind": "python",
                "id": f"{name}/{above}",
                "entry_point": f"opened:{name}",
                "kwargs": {"above": above},
            }
            for name in ("bright", "rising")
            for above in (0.0, 0.2)
        ],
        "tracking": {"enabled": False},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    assert pipeline(str(tmp_path / "study.yaml"), return_state=True).is_completed()
    for method in ("crosscov", "outputs"):
        near = nearest(tmp_path / "study.yaml", method, "model")
        assert near["bright/0.0"] == "bright/0.2"
        assert near["rising/0.2"] == "rising/0.0"
    assert nearest(tmp_path / "study.yaml", "crosscov", "dataset")["brightness"].startswith("bright/")
