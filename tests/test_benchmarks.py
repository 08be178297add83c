"""The benchmarks' own arithmetic, on made-up vectors: no shared data, no surrogate."""

import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # scripts beside each other, not a package
from population import Stopwatch, embed, train_zoos
from rankings import DIRECTIONS, Similarities, detection, over_seeds, table
from real_tasks import Task
from retrieval import SHIPPED, evaluate, summarise
from zoo import ARCHITECTURES, fit_all, read_inputs

from fute.types import Dataset, Features, Pool, Split, TextTable
from storage.store import Store

pytestmark = pytest.mark.slow

TASKS, FAMILIES = ["films", "shops", "weather"], ["sentiment", "sentiment", "topic"]


def perfect():
    datasets = np.eye(3)
    return datasets, np.repeat(datasets, len(ARCHITECTURES), axis=0)


def test_perfect_vectors_earn_one_in_every_direction_and_no_miss():
    similarities = Similarities.of(TASKS, FAMILIES, *perfect())
    measured = similarities.measure()
    for direction in DIRECTIONS:
        assert measured[direction]["exact"] == {"p_at_1": 1.0, "mrr": 1.0, "map": 1.0}
    assert similarities.misses() == []


def test_a_task_mistaken_for_its_sibling_is_a_miss_but_right_in_family():
    datasets, models = perfect()
    models[[0, 1, 2]], models[[3, 4, 5]] = models[[3, 4, 5]].copy(), models[[0, 1, 2]].copy()
    similarities = Similarities.of(TASKS, FAMILIES, datasets, models)
    found = similarities.measure()["dataset to model"]
    assert found["exact"]["p_at_1"] == pytest.approx(1 / 3)
    assert found["family"]["p_at_1"] == 1.0
    missed = [miss for miss in similarities.misses() if miss["direction"] == "dataset to model"]
    assert [(miss["query"], miss["first"].split("/")[0]) for miss in missed] == [("films", "shops"), ("shops", "films")]
    assert all(miss["rank"] == 4 for miss in missed)


def test_a_model_never_finds_itself_nor_its_architecture_where_another_is_asked_for():
    datasets, models = perfect()
    models[0] = 0.0  # like nothing else, itself included
    measured = Similarities.of(TASKS, FAMILIES, datasets, models).measure()
    assert measured["model to model"][ARCHITECTURES[0]]["p_at_1"] < 1.0
    assert measured["model to other architecture"][ARCHITECTURES[1]]["p_at_1"] == 1.0


def test_seeds_are_told_as_mean_and_deviation_and_fit_the_table():
    datasets, models = perfect()
    runs = [Similarities.of(TASKS, FAMILIES, datasets, m).measure() for m in (models, np.roll(models, 3, axis=0))]
    together = over_seeds(runs)
    assert together["dataset to model"]["exact"]["p_at_1"] == pytest.approx([0.5, np.sqrt(0.5)])
    assert "0.500 ±0.707" in table("made up", {"crosscov": together})


def test_detection_is_the_area_under_the_curve_and_needs_both_kinds():
    learned = np.array([True, True, False])
    assert detection(learned, {"cosine": np.array([0.9, 0.2, 0.3])}) == {"cosine": 0.5}
    assert detection(np.ones(3, dtype=bool), {"cosine": np.arange(3)}) == {}


def test_the_three_architectures_learn_a_task_of_words():
    texts = [f"{word} thing number {n}" for n in range(30) for word in ("good", "awful")]
    labels = np.tile([0, 1], 30)
    features = np.eye(2, dtype=np.float32)[labels]
    inputs = read_inputs(TextTable(texts), features)
    train, rest = np.arange(40), np.arange(40, 60)
    models = list(fit_all(inputs.take(train), labels[train]))
    assert [model.architecture for model in models] == list(ARCHITECTURES)
    for model in models:
        assert model.accuracy(inputs.take(rest), labels[rest]) == 1.0
        np.testing.assert_allclose(model.probabilities(inputs).sum(axis=1), 1.0, rtol=1e-5)


def made_up_tasks() -> list[Task]:
    """Three tasks of two classes; a word in a text says its class."""
    rng = np.random.default_rng(0)
    tasks = []
    for number, (name, family) in enumerate(zip(TASKS, FAMILIES, strict=True)):
        labels = rng.integers(0, 2, 80)
        fillers = rng.choice([f"filler{i}" for i in range(12)], (80, 4))
        texts = [
            f"{' '.join(row)} word{number}{label} {name} n{i}"
            for i, (row, label) in enumerate(zip(fillers, labels, strict=True))
        ]
        dataset = Dataset(name, "classification", {"train": Split(TextTable(texts), labels)}, f"made up {name}")
        tasks.append(Task(name, family, dataset))
    return tasks


def word_features(width: int) -> Features:
    """Two layers' worth of features of each text, from its words alone."""

    def of(table: TextTable) -> np.ndarray:
        rows = [
            np.mean(
                [np.random.default_rng(zlib.crc32(w.encode())).normal(size=2 * width) for w in text.split()], axis=0
            )
            for text in table.texts
        ]
        return np.stack(rows).astype(np.float32)

    return of


def test_a_zoo_is_trained_once_asked_once_and_ranked_in_every_variant(tmp_path: Path) -> None:
    tasks, width = made_up_tasks(), 24
    texts = [text for task in tasks for text in task.inputs.texts[:30]]
    pool = Pool(TextTable(texts), [f"source{i % 4}" for i in range(len(texts))])
    features, store, watch = word_features(width), Store(tmp_path), Stopwatch()
    train_zoos(tasks, {0: pool}, features, store, width, watch)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert len(written) == 2 * len(tasks) * len(ARCHITECTURES)
    train_zoos(tasks, {0: pool}, features, store, width, watch)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == written
    population = embed(tasks, pool, 0, features, store, width, watch)
    assert len(population.vectors.models) == len(tasks) * len(ARCHITECTURES)
    summary = summarise([evaluate(tasks, population, range(len(tasks)), 0)])
    shipped = summary["variants"][SHIPPED]["dataset to model"]["exact"]["map"][0]
    assert shipped > summary["variants"]["random"]["dataset to model"]["exact"]["map"][0]
