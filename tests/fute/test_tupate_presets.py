from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fute.errors import MethodError
from fute.fingerprint import fingerprint
from fute.methods.row_order import in_an_order_of_its_own
from fute.methods.tupate.config import PAPER, TupateConfig
from fute.methods.tupate.train import EarlyStop
from fute.surrogate.load import Surrogate
from fute.types import Dataset, Outputs, Split, TextTable

from .test_tupate import (
    cosine,
    dataset_of,
    mentions,
    pool_of,
    probabilities,
    regression_of,
    shuffled_rows,
    texts_of,
    tupate,
)
from .tiny_surrogates import load_tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory: pytest.TempPathFactory) -> Surrogate:
    return load_tiny("bert", tmp_path_factory.mktemp("surrogates"))


def with_validation(dataset: Dataset, n: int = 20) -> Dataset:
    texts = texts_of(33, n)
    if dataset.task == "regression":
        targets: Any = np.array([len(text) for text in texts], dtype=np.float32)
    else:
        targets = mentions(texts, "cat dog bird fish").astype(np.int64)
    splits = {**dataset.splits, "validation": Split(TextTable(texts), targets)}
    return Dataset(dataset.id, dataset.task, splits, "y")


def test_the_paper_preset_holds_the_papers_settings() -> None:
    paper = TupateConfig(preset="paper")
    assert (paper.dropout, paper.warmup, paper.patience) == (0.15, 0.05, 4)
    assert (paper.batch_size_dataset, paper.learning_rate_dataset, paper.learning_rate_spans) == (32, 1e-2, 5e-3)
    assert (paper.batch_size_model, paper.learning_rate_model) == (128, 1e-3)
    assert (paper.epochs_model, paper.epochs_llm) == (1, 3)
    assert (paper.max_tokens, paper.max_tokens_spans) == (128, 384)
    assert paper.max_tokens_llm == 512 - paper.prefix_tokens
    assert (paper.start, paper.embedding, paper.loss, paper.pooling) == ("own", "raw", "binary_cross_entropy", "token")


def test_a_preset_fills_only_what_was_not_given() -> None:
    config = TupateConfig(preset="paper", dropout=0.0, patience=None)
    assert (config.dropout, config.patience, config.embedding) == (0.0, None, "raw")
    assert TupateConfig().dropout == 0.0
    assert TupateConfig().embedding == "delta"


def test_the_identity_holds_the_filled_fields_and_nothing_that_changes_no_vector() -> None:
    paper = TupateConfig(preset="paper")
    assert PAPER.items() <= paper.identity().items()
    assert "bootstrap" not in paper.identity(exclude={"bootstrap"})
    written_out = TupateConfig(**PAPER)
    assert fingerprint(**paper.identity()) == fingerprint(**written_out.identity())
    fast = TupateConfig(kernel="eager", checkpointing=True, models_at_once=4, keep_gib=0.5)
    assert fast.identity() == TupateConfig().identity() != paper.identity()


def test_a_preset_survives_being_written_and_read_again() -> None:
    config = TupateConfig(preset="paper", patience=None, dropout=0.3)
    assert TupateConfig.model_validate_json(config.model_dump_json()) == config
    assert TupateConfig(**json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize("wrong", [{"preset": "papers"}, {"models_at_once": 0}, {"models_at_once": "all"}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TupateConfig(**wrong)


def test_own_starts_differ_between_subjects_and_follow_from_what_they_are(surrogate: Surrogate) -> None:
    method = tupate(surrogate, start="own", embedding="raw")
    first, second = probabilities(pool_of()), probabilities(pool_of(), "big small")
    vectors = [method.model(outputs).vector for outputs in (first, second, first)]
    assert cosine(vectors[0], vectors[1]) < 0.5  # two random starts have little in common
    assert vectors[0].tobytes() == vectors[2].tobytes()
    shared = tupate(surrogate, embedding="raw")
    assert cosine(shared.model(first).vector, shared.model(second).vector) > 0.5


def test_under_the_paper_preset_swapped_classes_and_shuffled_rows_start_elsewhere(surrogate: Surrogate) -> None:
    """Its random start follows from the dataset's fingerprint, and the raw prefix hardly leaves it."""
    method = tupate(surrogate, preset="paper", epochs_dataset=3)
    dataset = dataset_of()
    train = dataset.train
    swapped = replace(dataset, splits={"train": Split(train.inputs, 1 - train.targets)})
    shuffled = shuffled_rows(dataset)
    vector = method.dataset(dataset).vector
    for other in (swapped, shuffled):
        assert abs(cosine(vector, method.dataset(replace(other, fingerprint="of other content")).vector)) < 0.5
        assert cosine(vector, method.dataset(other).vector) > 0.9999  # it is the start alone


def test_the_paper_preset_embeds_datasets_and_models(surrogate: Surrogate) -> None:
    method = tupate(surrogate, preset="paper", epochs_dataset=3)
    dataset = method.dataset(with_validation(dataset_of()))
    assert dataset.metrics["rows"] == 60
    assert dataset.metrics["passes"] <= 3
    assert method.model(probabilities(pool_of())).vector.shape == dataset.vector.shape


def test_prompted_models_get_passes_of_their_own(surrogate: Surrogate) -> None:
    method = tupate(surrogate, epochs_model=1, epochs_llm=3)
    plain = probabilities(pool_of())
    asked = Outputs(plain.kind, plain.values, details={"calls": 0, "cached": 40})
    results = method.models([plain, asked])
    assert [each.metrics["steps"] for each in results] == [5, 15]  # type: ignore[union-attr]


def test_prompted_models_get_inputs_of_their_own_length(surrogate: Surrogate) -> None:
    plain = probabilities(pool_of())
    asked = Outputs(plain.kind, plain.values, details={"calls": 40})
    short, long = tupate(surrogate, max_tokens=4), tupate(surrogate, max_tokens=9)
    both = tupate(surrogate, max_tokens=4, max_tokens_llm=9)
    assert long.supervisor.pool_tokens().lengths.max() > 4
    vectors = [each.vector for each in both.models([plain, asked, plain])]  # type: ignore[union-attr]
    np.testing.assert_array_equal(vectors[0], short.model(plain).vector)
    np.testing.assert_array_equal(vectors[1], long.model(plain).vector)
    np.testing.assert_array_equal(vectors[2], vectors[0])
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4
    assert both.config.identity() != short.config.identity()


def test_training_stops_early_and_keeps_the_best_prefix(surrogate: Surrogate) -> None:
    """With labels that validation contradicts, every pass after the first makes it worse."""
    dataset = with_validation(dataset_of())
    validation = dataset.splits["validation"]
    splits = {**dataset.splits, "validation": Split(validation.inputs, 1 - validation.targets)}
    contradicted = Dataset(dataset.id, dataset.task, splits, "y")
    settings: dict[str, Any] = {"learning_rate_dataset": 3e-2, "warmup": 0.0}
    long = tupate(surrogate, epochs_dataset=60, patience=2, **settings).dataset(contradicted)
    assert long.metrics["passes"] < 60
    assert long.metrics["steps"] == 8 * long.metrics["passes"]
    assert long.metrics["loss_held_out"] < 1


def test_the_vector_is_that_of_the_pass_with_the_lowest_loss_on_held_out_rows(
    surrogate: Surrogate, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, torch.Tensor]] = []

    class Watched(EarlyStop):
        def after(self, loss: float, prefix: torch.Tensor) -> bool:
            seen.append((loss, prefix.detach().clone()))
            return super().after(loss, prefix)

    monkeypatch.setattr("fute.methods.tupate.train.EarlyStop", Watched)
    method = tupate(surrogate, patience=3, epochs_dataset=40, learning_rate_dataset=3e-2, embedding="raw")
    embedding = method.dataset(with_validation(dataset_of()))
    losses = [loss for loss, _ in seen]
    best = int(np.argmin(losses))
    assert 0 < best == len(losses) - 4  # three more passes, none of them better
    assert embedding.metrics["loss_held_out"] == losses[best]
    by_pass = [prefix[0].mean(dim=0).flatten().numpy() for _, prefix in seen]
    np.testing.assert_allclose(embedding.vector, by_pass[best] / np.linalg.norm(by_pass[best]), rtol=1e-5, atol=1e-7)
    assert cosine(by_pass[best], by_pass[-1]) < 0.9999


@pytest.mark.parametrize(
    ("setting", "of_datasets"),
    [
        ({"learning_rate_dataset": 2e-2}, True), ({"learning_rate_model": 2e-2}, False),
        ({"batch_size_dataset": 12}, True), ({"batch_size_model": 12}, False),
        ({"epochs_dataset": 3}, True), ({"epochs_model": 3}, False),
    ],
)  # fmt: skip
def test_datasets_and_models_have_settings_of_their_own_and_are_otherwise_embedded_alike(
    surrogate: Surrogate, setting: dict[str, Any], of_datasets: bool
) -> None:
    pool = pool_of()
    labels = mentions(pool.inputs.texts, "cat dog bird fish")
    dataset = dataset_of(splits={"train": Split(pool.inputs, labels)})
    outputs = Outputs("labels", np.eye(2, dtype=np.float32)[labels])
    plain, changed = tupate(surrogate, pool), tupate(surrogate, pool, **setting)
    expected = plain.dataset(dataset).vector
    assert plain.model(outputs).vector.tobytes() == expected.tobytes()
    assert (changed.dataset(dataset).vector.tobytes() == expected.tobytes()) == (not of_datasets)
    assert (changed.model(outputs).vector.tobytes() == expected.tobytes()) == of_datasets


def test_early_stopping_waits_for_patience_and_returns_to_the_best() -> None:
    stop = EarlyStop(patience=2)
    told = [stop.after(loss, torch.tensor([loss])) for loss in (3.0, 1.0, 2.0, 0.5, 0.6, 0.7)]
    assert told == [False, False, False, False, False, True]
    assert stop.lowest == 0.5
    assert stop.best is not None
    assert stop.best.tolist() == [0.5]


def test_held_out_rows_come_from_the_validation_split_or_else_from_a_seeded_share(surrogate: Surrogate) -> None:
    supervisor = tupate(surrogate).supervisor
    training, held = supervisor.dataset_with_held_out(with_validation(dataset_of(n=60), n=20))
    assert (len(training), len(held)) == (60, 20)
    training, held = supervisor.dataset_with_held_out(dataset_of(n=60))
    assert (len(training), len(held)) == (54, 6)
    again = supervisor.dataset_with_held_out(dataset_of(n=60))[1]
    assert [list(ids) for ids in held.tokens.ids] == [list(ids) for ids in again.tokens.ids]


def test_numbers_are_standardised_alike_on_both_sides(surrogate: Surrogate) -> None:
    supervisor = tupate(surrogate).supervisor
    dataset = with_validation(regression_of(1.0))
    training, held = supervisor.dataset_with_held_out(dataset)
    both = np.concatenate([training.targets.values, held.targets.values]).ravel()
    ordered = in_an_order_of_its_own(dataset)
    raw = np.concatenate([ordered.train.targets, ordered.splits["validation"].targets])
    assert np.corrcoef(both, raw)[0, 1] == pytest.approx(1, abs=1e-6)
    assert both.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("max_rows", [1000, 20])
@pytest.mark.parametrize("validation", [True, False])
def test_the_order_of_the_rows_does_not_matter_to_early_stopping(
    surrogate: Surrogate, max_rows: int, validation: bool
) -> None:
    dataset = with_validation(dataset_of()) if validation else dataset_of()
    shuffled = shuffled_rows(dataset)
    method = tupate(surrogate, max_rows=max_rows, patience=2, epochs_dataset=4)
    assert method.dataset(dataset).vector.tobytes() == method.dataset(shuffled).vector.tobytes()


def test_early_stopping_never_returns_to_the_untouched_start(surrogate: Surrogate) -> None:
    """All rows are one batch, so the first step moves the head alone; validation contradicts what comes after it."""
    dataset = with_validation(dataset_of(n=30))
    validation = dataset.splits["validation"]
    splits = {**dataset.splits, "validation": Split(validation.inputs, 1 - validation.targets)}
    contradicted = Dataset(dataset.id, dataset.task, splits, "y")
    method = tupate(surrogate, patience=2, epochs_dataset=20, batch_size_dataset=64, warmup=0.0, embedding="raw")
    start = method._shared_start.mean(dim=0).flatten().numpy()
    assert cosine(method.dataset(contradicted).vector, start) < 1 - 1e-7


@pytest.mark.parametrize("embedding", ["delta", "raw"])
def test_a_prefix_that_training_left_as_it_was_is_an_error(surrogate: Surrogate, embedding: str) -> None:
    with pytest.raises(MethodError, match="training left the prefix as it was; raise the learning rate"):
        tupate(surrogate, embedding=embedding, learning_rate_dataset=1e-30).dataset(dataset_of())


def test_too_few_rows_for_early_stopping_are_refused(surrogate: Surrogate) -> None:
    with pytest.raises(MethodError, match="early stopping needs two of each"):
        tupate(surrogate, patience=2).dataset(dataset_of(n=8))
