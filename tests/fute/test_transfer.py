"""One transfer: the encoder goes along, the head does not; the same seed, the same score; no text on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fute.config import SurrogateConfig, TransferConfig
from fute.errors import DataError, ModelError
from fute.seeding import seeded
from fute.surrogate.source import Source, find_source
from fute.train.finetune import FOLDER
from fute.train.training import train
from fute.train.transfer import (
    known_texts,
    source_recipe,
    target_rows,
    transfer,
    transfer_fingerprint,
    with_fresh_head,
)
from fute.types import Dataset, Split, TextTable

from .tiny_surrogates import NOUNS, OTHERS, VERBS, save_tiny

CONFIG = TransferConfig(
    epochs=3, learning_rate=3e-3, batch_size=8, max_tokens=24, source_epochs=8, source_learning_rate=3e-3
)
CPU = torch.device("cpu")


def make_split(n: int, seed: int, n_classes: int = 2) -> Split:
    """Texts whose noun tells the class; which nouns belong together is the same for every number of classes."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(n_classes, size=n)
    size = len(NOUNS) // n_classes
    texts = [
        " ".join(
            ["the", rng.choice(OTHERS), NOUNS[size * t + rng.integers(size)], rng.choice(VERBS), rng.choice(OTHERS)]
        )
        for t in targets
    ]
    return Split(TextTable(texts), targets)


def make_dataset(name: str, n: int = 160, n_classes: int = 2, seed: int = 0) -> Dataset:
    splits = {"train": make_split(n, seed, n_classes), "test": make_split(60, seed + 1, n_classes)}
    return Dataset(name, "classification", splits, f"{name}{seed}", tuple(f"c{i}" for i in range(n_classes)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("transfer")
    save_tiny("bert", found / "bert")
    return found


@pytest.fixture(scope="module")
def source(folder: Path) -> Source:
    """The tiny BERT fine-tuned on a dataset of the same two classes."""
    surrogate = SurrogateConfig(model="bert", device="cpu", max_tokens=24)
    recipe = source_recipe(CONFIG, "beasts")
    train(recipe, make_dataset("beasts"), folder / "source", base_dir=folder, surrogate_config=surrogate, seed=0)
    return find_source(str(folder / "source" / FOLDER), None, folder)


@pytest.fixture
def backbone(folder: Path) -> Source:
    return find_source("bert", None, folder)


def test_a_source_of_the_same_task_helps_where_rows_are_few(source: Source, backbone: Source) -> None:
    rows = target_rows(make_dataset("target", seed=7), rows=8, eval_rows=60, seed=0)
    helped = transfer(source, rows, CONFIG, seed=0, device=CPU)
    plain = transfer(backbone, rows, CONFIG, seed=0, device=CPU)
    assert helped.accuracy > plain.accuracy + 0.1
    assert helped.metrics["steps"] == 3
    assert 0 <= helped.macro_f1 <= 1
    assert helped.majority == pytest.approx(0.5, abs=0.2)


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_one_does_not(source: Source) -> None:
    rows = target_rows(make_dataset("target", seed=7), rows=16, eval_rows=60, seed=0)
    torch.manual_seed(123)
    first = transfer(source, rows, CONFIG, seed=4, device=CPU)
    torch.manual_seed(321)
    again, other = (transfer(source, rows, CONFIG, seed=seed, device=CPU) for seed in (4, 5))
    assert again.metrics == first.metrics
    assert (again.accuracy, again.macro_f1) == (first.accuracy, first.macro_f1)
    assert other.metrics["last_epoch_loss"] != first.metrics["last_epoch_loss"]


def test_all_of_the_backbone_is_taken_over_and_nothing_of_the_head(source: Source, backbone: Source) -> None:
    with seeded(0):
        plain, _ = with_fresh_head(backbone, ("a", "b"), seed=3)
        started, _ = with_fresh_head(source, ("a", "b"), seed=3)
    trained = source_weights(source)
    for name, weights in started.bert.state_dict().items():
        torch.testing.assert_close(weights, trained[f"bert.{name}"], rtol=0, atol=0)
    assert not torch.equal(started.classifier.weight, trained["classifier.weight"])
    assert torch.equal(started.classifier.weight, plain.classifier.weight)
    assert not torch.equal(started.bert.pooler.dense.weight, plain.bert.pooler.dense.weight)


def source_weights(source: Source) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(Path(source.location) / "model.safetensors")


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "gpt2"])
def test_other_families_can_be_a_start_too(tmp_path: Path, kind: str) -> None:
    save_tiny(kind, tmp_path / kind)
    rows = target_rows(make_dataset("target", n_classes=4, seed=7), rows=8, eval_rows=12, seed=0)
    result = transfer(find_source(kind, None, tmp_path), rows, CONFIG, seed=0, device=CPU)
    assert 0 <= result.accuracy <= 1


def test_bfloat16_trains_too_and_is_another_transfer(source: Source) -> None:
    rows = target_rows(make_dataset("target", seed=7), rows=8, eval_rows=12, seed=0)
    low = CONFIG.model_copy(update={"dtype": "bfloat16"})
    assert np.isfinite(transfer(source, rows, low, seed=0, device=CPU).metrics["last_epoch_loss"])
    assert transfer_fingerprint("x", rows, low, 0) != transfer_fingerprint("x", rows, CONFIG, 0)


def test_a_transfer_is_the_same_while_start_rows_settings_and_seed_are() -> None:
    dataset = make_dataset("target")
    rows, other = (target_rows(dataset, rows=8, eval_rows=12, seed=seed) for seed in (0, 1))
    base = transfer_fingerprint("x", rows, CONFIG, 0)
    elsewhere = CONFIG.model_copy(update={"sources": ["a"], "source_rows": 9, "seeds": 9})
    assert transfer_fingerprint("x", target_rows(dataset, rows=8, eval_rows=12, seed=0), elsewhere, 0) == base
    epochs = CONFIG.model_copy(update={"epochs": 9})
    changed = [("y", rows, CONFIG, 0), ("x", other, CONFIG, 0), ("x", rows, epochs, 0), ("x", rows, CONFIG, 1)]
    assert base not in {transfer_fingerprint(*arguments) for arguments in changed}


def test_few_rows_are_stratified_and_come_from_train_the_scored_ones_from_test() -> None:
    dataset = make_dataset("target", n_classes=4)
    rows = target_rows(dataset, rows=12, eval_rows=20, seed=0)
    assert (len(rows.training), len(rows.held_out), rows.n_shared) == (12, 20, 0)
    assert set(rows.training.targets) == {0, 1, 2, 3}
    assert set(rows.training.inputs.texts) <= set(dataset.train.inputs.texts)
    assert set(rows.held_out.inputs.texts) <= set(dataset.splits["test"].inputs.texts)


def test_rows_that_a_source_holds_too_are_left_out_of_both_sides_and_counted() -> None:
    texts = [f"text number {i}" for i in range(40)]
    labels = np.arange(40) % 2
    target = Dataset(
        "target", "classification",
        {"train": Split(TextTable(texts[:20]), labels[:20]), "test": Split(TextTable(texts[20:]), labels[20:])}, "t",
    )  # fmt: skip
    shown = [*[text.upper() + "!" for text in texts[5:10]], *texts[30:33]]
    other = Dataset("other", "classification", {"train": Split(TextTable(shown), np.zeros(8, int))}, "o")
    rows = target_rows(target, rows=15, eval_rows=20, seed=0, known=known_texts([other]))
    assert rows.n_shared == 8
    assert set(rows.training.inputs.texts) == {*texts[:5], *texts[10:20]}
    assert set(rows.held_out.inputs.texts) == {*texts[20:30], *texts[33:]}
    with pytest.raises(DataError, match=r"target: 16 training rows .* there are 15 .* 8 rows that a source also holds"):
        target_rows(target, rows=16, eval_rows=20, seed=0, known=known_texts([other]))


def test_no_target_is_scored_on_a_text_that_it_is_trained_on() -> None:
    texts = [f"text number {i}" for i in range(30)]
    labels = np.arange(30) % 2
    splits = {"train": Split(TextTable(texts), labels), "test": Split(TextTable([t.upper() for t in texts]), labels)}
    rows = target_rows(Dataset("target", "classification", splits, "t"), rows=10, eval_rows=30, seed=0)
    assert len(rows.held_out) == 20
    assert not {t.lower() for t in rows.held_out.inputs.texts} & set(rows.training.inputs.texts)


def test_fewer_rows_than_classes_are_refused() -> None:
    with pytest.raises(DataError, match="more rows than classes"):
        target_rows(make_dataset("target", n_classes=4), rows=3, eval_rows=20, seed=0)


def test_a_start_that_is_no_model_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    rows = target_rows(make_dataset("target"), rows=8, eval_rows=12, seed=0)
    with pytest.raises(ModelError, match="empty holds neither model.safetensors"):
        transfer(find_source("empty", None, tmp_path), rows, CONFIG, seed=0, device=CPU)
