"""The demo's data and its own models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from examples.demo.data import N_SOURCE, N_TEST, N_TRAIN, task_rows, write_demo_data
from examples.demo.grammar import expand, one_of, sentence
from examples.demo.sources import SOURCES
from examples.demo.tasks import FORMALITY, PRODUCTS, QUESTIONS, RESTAURANTS, TASKS
from examples.demo.zoo import QUESTION_LABELS, question_rules
from fute.config import PythonModel, SklearnModel
from fute.data.normalise import normalise
from fute.models.build import build_model
from fute.train.result import digest_files
from fute.types import TextTable
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo_data(folder)
    return folder


def rows(file: Path) -> list[dict]:
    return pq.read_table(file).to_pylist()


def test_a_numbered_slot_is_drawn_once_and_a_plain_one_anew() -> None:
    rules = {"n": one_of("1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9"), "both": ("{n:1} {n}",)}
    drawn = [expand(rules, "{n:1} {n:1} {n} {both}", np.random.default_rng(seed)).split() for seed in range(50)]
    assert all(row[0] == row[1] == row[3] for row in drawn)
    assert any(row[2] != row[0] for row in drawn)
    assert sentence("a owl saw a dog. it fled") == "An owl saw a dog. It fled"


def test_it_holds_the_tasks_and_sources_that_the_demo_promises(demo: Path) -> None:
    assert len(TASKS) >= 7
    assert sum(task.is_pair for task in TASKS) >= 2
    assert len(SOURCES) == 12
    for task in TASKS:
        for split, n in (("train", N_TRAIN), ("test", N_TEST)):
            found = rows(demo / "tasks" / task.id / f"{split}.parquet")
            assert len(found) == n
            assert {row["label"] for row in found} == set(task.templates)
            assert all(row["text"] and ("text_pair" in row) == task.is_pair for row in found)
    for source in SOURCES:
        assert len(rows(demo / "sources" / f"{source.id}.parquet")) == N_SOURCE


def test_no_text_comes_twice_in_tasks_or_sources(demo: Path) -> None:
    files = sorted(demo.rglob("*.parquet"))
    assert len(files) == 2 * len(TASKS) + len(SOURCES)
    inputs = [(normalise(r["text"]), normalise(r.get("text_pair") or "")) for file in files for r in rows(file)]
    assert len(inputs) == len(set(inputs)) == (N_TRAIN + N_TEST) * len(TASKS) + N_SOURCE * len(SOURCES)


def test_same_seed_writes_the_same_files_and_another_seed_others(demo: Path, tmp_path: Path) -> None:
    write_demo_data(tmp_path / "again")
    write_demo_data(tmp_path / "other", seed=1)
    assert digest_files(tmp_path / "again") == digest_files(demo)
    assert digest_files(tmp_path / "other") != digest_files(demo)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_every_task_can_be_learned_from_words_but_not_perfectly(demo: Path, task) -> None:
    texts, labels = {}, {}
    for split in ("train", "test"):
        found = rows(demo / "tasks" / task.id / f"{split}.parquet")
        texts[split] = [f"{row['text']} [SEP] {row.get('text_pair', '')}" for row in found]
        labels[split] = [row["label"] for row in found]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10))
    accuracy = model.fit(texts["train"], labels["train"]).score(texts["test"], labels["test"])
    assert 0.75 <= accuracy <= 0.99


def test_the_demos_own_models_do_their_tasks() -> None:
    beside = REPOSITORY / "examples"
    sentiment = build_model(SklearnModel(kind="sklearn", id="s", entry_point="demo.zoo:keyword_sentiment"), beside)
    questions = build_model(
        PythonModel(kind="python", id="q", entry_point="demo.zoo:question_rules", label_names=list(QUESTION_LABELS)),
        beside,
    )
    formality = build_model(
        PythonModel(kind="python", id="f", entry_point="demo.zoo:formality_score", outputs="scores"), beside
    )

    def inputs(task) -> tuple[TextTable, np.ndarray]:
        made = task_rows(task, 100, seed=5)
        return TextTable([text for (text, _), _ in made]), np.array([label for _, label in made])

    for task in (PRODUCTS, RESTAURANTS, QUESTIONS):
        table, labels = inputs(task)
        outputs = (questions if task is QUESTIONS else sentiment).outputs(table).validate(100)
        assert outputs.label_names is not None
        assert (np.array(outputs.label_names)[outputs.values.argmax(axis=1)] == labels).mean() > 0.75
    table, labels = inputs(FORMALITY)
    scores = formality.outputs(table).validate(100).values[:, 0]
    assert ((scores > 0) == (labels == "formal")).mean() > 0.75


def test_rules_give_even_odds_where_none_fits() -> None:
    np.testing.assert_allclose(question_rules(["The bread is warm.", "Who knows?"])[0], 0.2)
    assert question_rules(["Who knows?"])[0].argmax() == QUESTION_LABELS.index("person")
    assert question_rules([]).shape == (0, 5)
