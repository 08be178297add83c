"""benchmarks/packaged.py: its counts on made-up models, and the packages where they are installed."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # scripts beside each other, not a package
from packaged import DATASETS, knowledge, present, rank
from packaged_models import MODELS, OFFENSIVE, SENTIMENT, Packaged, each
from packaged_table import describe, report, summarise
from real_tasks import Task, manifest

from fute.types import Dataset, Pool, Split, TextTable
from storage.store import Store

pytestmark = pytest.mark.slow

SHARED = Path(os.environ.get("FUTE_SHARED", Path(__file__).parents[2] / "shared"))
OPINIONS, INSULTS = ("good", "awful"), ("kind", "rude")
MADE_UP = [
    Packaged("opinions", "pytest", "scores", SENTIMENT, "", lambda: each(lambda text: float("good" in text))),
    Packaged("more opinions", "pytest", "scores", SENTIMENT, "", lambda: each(lambda text: -float("awful" in text))),
    Packaged("insults", "pytest", "labels", OFFENSIVE, "", lambda: each(lambda text: str("rude" in text))),
    Packaged("length", "pytest", "scores", None, "", lambda: each(lambda text: len(text) % 3)),
]


def task_of(name: str, family: str, words: tuple[str, str]) -> Task:
    labels = np.tile([0, 1], 40)
    texts = [f"{words[label]} {word_of_no_class(i)} {i}" for i, label in enumerate(labels)]
    dataset = Dataset(name, "classification", {"train": Split(TextTable(texts), labels)}, f"made up {name}")
    return Task(name, family, dataset)


def word_of_no_class(i: int) -> str:
    return ("tree", "house", "river", "cloud", "stone")[i % 5]


def features(table: TextTable) -> np.ndarray:
    """What words a text has, and noise of its own."""
    words = (*OPINIONS, *INSULTS, "tree", "house", "river", "cloud", "stone")
    noise = np.random.default_rng(0).normal(scale=0.05, size=(len(table), len(words)))
    return (np.array([[word in text.split() for word in words] for text in table.texts]) + noise).astype(np.float32)


def test_models_are_found_by_the_family_of_their_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [task_of("films", SENTIMENT, OPINIONS), task_of("comments", OFFENSIVE, INSULTS)]
    texts = [f"{a} {b} {word_of_no_class(i)} {i}" for i in range(40) for a in OPINIONS for b in INSULTS]
    pool = Pool(TextTable(texts), ["one source"] * len(texts))
    models, missing = present([*MADE_UP, Packaged("gone", "no-such-package", "scores", None, "", MADE_UP[0].load)])
    assert (models, missing) == (MADE_UP, ["no-such-package"])
    ranking = rank(features, pool, [task.dataset for task in tasks], [m.outputs(pool.inputs) for m in models], 0)
    known = {model.id: knowledge(model, tasks, Store(tmp_path)) for model in models}
    assert known == {"opinions": {"films": 1}, "more opinions": {"films": 1}, "insults": {"comments": 1}, "length": {}}

    rows = describe(models, tasks, ranking, known)
    assert [row["rank_of_right_family"] for row in rows] == [1, 1, 1, None]
    assert rows[0]["nearest_model"] == "more opinions"
    summary = summarise(rows, [task.family for task in tasks])
    assert summary["that know their task"]["family_first"] == 3
    assert summary["that know their task"]["expected_by_chance"] == [1.5, 3.0]
    assert summary["of no family here"]["models"] == 1
    report(rows, summary)
    assert "right family first 3 (by chance 1.5)" in capsys.readouterr().out


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_a_package_answers_short_and_odd_texts_without_a_network(model: Packaged) -> None:
    if not present([model])[0]:
        pytest.skip(f"{model.package} is not installed (the group 'packaged')")
    texts = [
        "I love this wonderful film.",
        "An awful, stupid plot, and I hate it!",
        "Fuck off, you idiot.",
        "Win a FREE prize now, call 0800",
        "Heute ist Montag.",
        "One. Two words. And a sentence that goes on for rather longer than that.",
        "!!!",
    ]
    outputs = model.outputs(TextTable(texts, [None] * 6 + ["?"])).validate(len(texts))
    assert outputs.kind == model.kind
    assert outputs.answered_mask[:6].all()


def test_the_datasets_exist_and_have_the_families_that_the_models_are_held_to() -> None:
    if not (SHARED / "data/MANIFEST.json").is_file():
        pytest.skip(f"no shared data at {SHARED}")
    entries = manifest(SHARED)
    assert {name: entries[name]["family"] for name in DATASETS} == DATASETS
    assert {model.family for model in MODELS} <= {*DATASETS.values(), None}
