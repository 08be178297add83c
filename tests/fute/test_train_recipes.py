"""Source models: trained, kept without pickle, and back with the same answers."""

from __future__ import annotations

import json
import shutil
import threading
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

from fute.config import SurrogateConfig, TrainedModel
from fute.errors import ModelError
from fute.train.backbone import backbone_identity, computed_features
from fute.train.finetune import _rate, length_buckets
from fute.train.probe import fit_probe
from fute.train.recipe import recipe_fingerprint
from fute.train.split import training_and_held_out
from fute.train.trained import load_trained
from fute.train.training import train
from fute.types import Dataset, Split, TextTable

from .tiny_surrogates import NOUNS, OTHERS, VERBS, save_tiny

RECIPES = ["tfidf", "probe", "finetune"]


def make_split(n: int, seed: int, n_classes: int = 3, pairs: bool = False) -> Split:
    """Texts whose noun tells the class, in most of the rows."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(n_classes, size=n)
    nouns = np.where(rng.random(n) < 0.9, 2 * targets + rng.integers(2, size=n), rng.integers(len(NOUNS), size=n))
    texts = [
        " ".join(["the", rng.choice(OTHERS), NOUNS[noun], rng.choice(VERBS), *rng.choice(OTHERS, size=rng.integers(9))])
        for noun in nouns
    ]
    seconds = [f"a {rng.choice(OTHERS)} log" if i % 2 else None for i in range(n)] if pairs else None
    return Split(TextTable(texts, seconds), targets)


def make_dataset(**kwargs: Any) -> Dataset:
    splits = {"train": make_split(120, 1, **kwargs), "test": make_split(40, 2, **kwargs)}
    return Dataset("beasts", "classification", splits, "f" * 20, ("pets", "wild", "still"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    save_tiny("bert", folder / "bert")
    return folder


SURROGATE = SurrogateConfig(model="bert", device="cpu", max_tokens=24)


def recipe(name: str, **settings: Any) -> TrainedModel:
    quick = {"epochs": 4, "learning_rate": 3e-3, "max_tokens": 24}
    return TrainedModel(**{"kind": "trained", "id": "m", "dataset": "beasts", "recipe": name, **quick, **settings})


def run(config: TrainedModel, folder: Path, study: Path, dataset: Dataset | None = None, seed: int = 0, **kwargs: Any):
    return train(
        config, dataset or make_dataset(), folder, base_dir=study, surrogate_config=SURROGATE, seed=seed, **kwargs
    )


def back(config: TrainedModel, folder: Path, study: Path):
    return load_trained(folder, config, base_dir=study, surrogate_config=SURROGATE)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_a_trained_model_beats_the_majority_and_answers_from_its_folder(
    tmp_path: Path, study: Path, name: str, pairs: bool
) -> None:
    dataset, config = make_dataset(pairs=pairs), recipe(name, epochs=6)
    result = run(config, tmp_path / "m", study, dataset)
    assert result.score > result.majority + 0.05
    assert (result.held_out, result.n_train, result.n_held_out) == ("test", 120, 40)

    shutil.move(tmp_path / "m", tmp_path / "moved")
    model = back(config, tmp_path / "moved", study)
    test = dataset.splits["test"]
    outputs = model.outputs(test.inputs).validate(40)
    predicted = outputs.values.argmax(axis=1)
    assert (outputs.kind, outputs.label_names) == ("probabilities", ("pets", "wild", "still"))
    assert result.score == pytest.approx(accuracy_score(test.targets, predicted))
    assert result.metrics["macro_f1"] == pytest.approx(f1_score(test.targets, predicted, average="macro"))
    assert result.majority == pytest.approx(np.bincount(test.targets).max() / len(test))
    assert (model.kind, model.fingerprint) == ("trained", result.fingerprint)


def test_tfidf_from_its_folder_equals_the_fitted_pipeline_exactly(tmp_path: Path, study: Path) -> None:
    dataset = make_dataset()
    run(recipe("tfidf"), tmp_path / "m", study, dataset)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, strip_accents="unicode")
    features = vectorizer.fit_transform(dataset.train.inputs.texts)
    fitted = LogisticRegression(C=10.0, max_iter=1000).fit(features, dataset.train.targets)
    new = TextTable(["the red fish swam", "nothing known here", "over under over"])
    expected = fitted.predict_proba(vectorizer.transform(new.texts)).astype(np.float32)
    np.testing.assert_array_equal(back(recipe("tfidf"), tmp_path / "m", study).outputs(new).values, expected)


def test_probe_is_logistic_regression_on_standardised_features(tmp_path: Path, study: Path) -> None:
    dataset = make_dataset()
    run(recipe("probe"), tmp_path / "m", study, dataset)
    features = computed_features(SURROGATE.model_copy(update={"layer": -1}), study)  # the last layer alone
    x, y = features(dataset.train.inputs), features(dataset.splits["test"].inputs)
    mean, scale = x.mean(axis=0, dtype=float), x.std(axis=0, dtype=float)
    expected = LogisticRegression(C=0.01, max_iter=1000).fit((x - mean) / scale, dataset.train.targets)
    got = back(recipe("probe"), tmp_path / "m", study).outputs(dataset.splits["test"].inputs).values
    np.testing.assert_allclose(got, expected.predict_proba((y - mean) / scale), atol=1e-3)


def test_probe_is_deaf_to_features_that_hardly_ever_change() -> None:
    train, test = make_split(60, 1), make_split(40, 2)
    words = np.random.default_rng(0).normal(size=(len(NOUNS), 16)).astype(np.float32)

    def features(table: TextTable, noise: float) -> np.ndarray:
        known = np.array([words[NOUNS.index(text.split()[2])] for text in table.texts])
        rng = np.random.default_rng(len(table))
        return np.hstack([known, noise * rng.normal(size=(len(table), 2)).astype(np.float32), 0 * known[:, :1]])

    answers = []
    for noise in (0.0, 1e-8):
        probe, _ = fit_probe(train.inputs, train.targets, 3, partial(features, noise=noise))
        answers.append(probe.probabilities(test.inputs))
    np.testing.assert_array_equal(*answers)
    assert (answers[0].argmax(axis=1) == test.targets).mean() > 0.8


def test_two_classes_and_a_class_without_rows_keep_their_columns(tmp_path: Path, study: Path) -> None:
    splits = {"train": make_split(60, 1, n_classes=2), "test": make_split(40, 2, n_classes=2)}
    named = Dataset("beasts", "classification", splits, "a" * 20, ("no", "yes"))
    unused = Dataset("beasts", "classification", splits, "b" * 20, ("no", "yes", "never"))
    unnamed = Dataset("beasts", "classification", splits, "c" * 20)
    for name in ("tfidf", "probe"):
        answers = {}
        for dataset in (named, unused, unnamed):
            folder = tmp_path / f"{name}-{dataset.fingerprint[0]}"
            run(recipe(name), folder, study, dataset)
            answers[dataset.fingerprint[0]] = back(recipe(name), folder, study).outputs(splits["test"].inputs)
        assert answers["a"].values.shape == (40, 2)
        np.testing.assert_array_equal(answers["b"].values[:, :2], answers["a"].values)
        assert not answers["b"].values[:, 2].any()
        assert answers["c"].label_names == ("0", "1")


@pytest.mark.parametrize("name", RECIPES)
def test_same_seed_gives_the_same_files_bit_for_bit(tmp_path: Path, study: Path, name: str) -> None:
    np.random.seed(99)  # noqa: NPY002
    first = run(recipe(name), tmp_path / "1", study)
    second = run(recipe(name), tmp_path / "2", study)
    assert first.files == second.files
    assert (first.score, first.metrics) == (second.score, second.metrics)


def test_two_fine_tunings_at_once_give_what_each_gives_alone(tmp_path: Path, study: Path) -> None:
    alone = [run(recipe("finetune"), tmp_path / f"alone{seed}", study, seed=seed).files for seed in (0, 1)]
    together: dict[int, Any] = {}

    def work(seed: int) -> None:
        together[seed] = run(recipe("finetune"), tmp_path / f"together{seed}", study, seed=seed).files

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert alone == [together[0], together[1]]
    assert alone[0] != alone[1]


def test_without_a_test_split_validation_or_a_stratified_fifth_is_held_out() -> None:
    rows = make_split(100, 3)
    with_validation = Dataset("d", "classification", {"train": rows, "validation": make_split(10, 4)}, "f")
    assert training_and_held_out(with_validation, 0)[2] == "validation"
    alone = Dataset("d", "classification", {"train": rows}, "f")
    training, held_out, name = training_and_held_out(alone, 0)
    assert (name, len(training), len(held_out)) == ("train", 80, 20)
    # Every row is in exactly one of the two, and the classes keep their shares.
    key = [
        *zip(training.inputs.texts, training.targets, strict=True),
        *zip(held_out.inputs.texts, held_out.targets, strict=True),
    ]
    assert sorted(key) == sorted(zip(rows.inputs.texts, rows.targets, strict=True))
    np.testing.assert_allclose(np.bincount(held_out.targets), np.bincount(rows.targets) / 5, atol=1)
    again, other = training_and_held_out(alone, 0)[0], training_and_held_out(alone, 1)[0]
    assert again.inputs.texts == training.inputs.texts
    assert other.inputs.texts != training.inputs.texts
    assert len(training_and_held_out(alone, 0, max_rows=30)[0]) == 30


def test_fingerprint_knows_what_matters_to_its_recipe_and_nothing_else(study: Path) -> None:
    def identity(name: str, data: str = "d", seed: int = 0, **settings: Any) -> str:
        config = recipe(name, **settings)
        return recipe_fingerprint(config, data, backbone_identity(config, SURROGATE, study), seed)

    for name in RECIPES:
        first = identity(name)
        assert identity(name, id="n", dataset="*") == first
        assert len({first, identity(name, data="e"), identity(name, seed=1), identity(name, max_rows=9)}) == 4
    assert identity("tfidf", epochs=9, max_tokens=12) == identity("tfidf")
    assert identity("probe", max_tokens=12) != identity("probe")
    assert identity("finetune", epochs=9) != identity("finetune")
    assert identity("probe", backbone="bert") == identity("probe")


def test_a_loss_that_diverges_is_told(tmp_path: Path, study: Path) -> None:
    with pytest.raises(
        ModelError, match=r"finetune on beasts: the loss became (nan|inf) at step .* smaller learning_rate"
    ):
        run(recipe("finetune", learning_rate=1e30), tmp_path / "m", study)


def test_what_cannot_be_trained_is_refused(tmp_path: Path, study: Path) -> None:
    one_class = Split(TextTable(["a", "b", "c"]), np.zeros(3, np.int64))
    with pytest.raises(ModelError, match="d: the 3 training rows are all of one class"):
        run(
            recipe("tfidf"),
            tmp_path / "m",
            study,
            Dataset("d", "classification", {"train": one_class, "test": one_class}, "f"),
        )
    marks = Split(TextTable(["!", "?"]), np.array([0, 1]))
    with pytest.raises(ModelError, match="tfidf on d: no TF-IDF vocabulary could be made of 2 texts"):
        run(
            recipe("tfidf"), tmp_path / "m", study, Dataset("d", "classification", {"train": marks, "test": marks}, "f")
        )
    for name in ("probe", "finetune"):
        with pytest.raises(ModelError, match=f"backbone of recipe {name}: there is no folder"):
            run(recipe(name, backbone="./nowhere"), tmp_path / "m", study)


def test_changed_files_and_another_version_are_refused(tmp_path: Path, study: Path) -> None:
    run(recipe("tfidf"), tmp_path / "m", study)
    vocabulary = tmp_path / "m" / "vocabulary.json"
    vocabulary.write_text(json.dumps({"terms": []}))
    with pytest.raises(ModelError, match=r"vocabulary\.json is not the file that the training wrote"):
        back(recipe("tfidf"), tmp_path / "m", study).outputs(TextTable(["a"]))
    (tmp_path / "m" / "card.json").write_text("{}")
    with pytest.raises(ModelError, match="another version of fute; train the model again"):
        back(recipe("tfidf"), tmp_path / "m", study)
    with pytest.raises(ModelError, match="no card of a trained model"):
        back(recipe("tfidf"), tmp_path / "nowhere", study)


def test_probe_features_may_come_from_the_caller(tmp_path: Path, study: Path) -> None:
    asked: list[SurrogateConfig] = []

    def features_of(backbone: SurrogateConfig, base_dir: Path):
        asked.append(backbone)
        return computed_features(backbone, base_dir)

    given = run(recipe("probe"), tmp_path / "1", study, features_of=features_of)
    assert given.files == run(recipe("probe"), tmp_path / "2", study).files
    assert [(backbone.model, backbone.max_tokens, backbone.layer) for backbone in asked] == [("bert", 24, -1)]


def test_length_buckets_hold_every_row_once_and_rows_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(4, 100, size=1000)
    batches = list(length_buckets(lengths, 8, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    assert {len(batch) for batch in batches} == {8}
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    at_random = sum(8 * lengths[i : i + 8].max() for i in range(0, 1000, 8))
    assert padded < 1.1 * lengths.sum() < 0.8 * at_random


def test_learning_rate_climbs_to_its_peak_and_falls_to_zero() -> None:
    rates = [_rate(step, 50) for step in range(51)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert max(rates) == 1.0
    assert all(a >= b for a, b in pairwise(rates[5:]))
    assert rates[49] > 0 == rates[50]
    assert _rate(0, 1) == 1.0
