"""Many models trained in one pass equal the same models one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fute.methods.tupate.embed as embed_module
from fute.errors import FuteError, MethodError, OutputsError
from fute.methods.crosscov.config import CrosscovConfig
from fute.methods.crosscov.embed import Crosscov
from fute.methods.heads import row_losses
from fute.methods.tupate.config import AUTO_GROUP, TupateConfig
from fute.methods.tupate.embed import Tupate
from fute.methods.tupate.prefixed import PrefixedModels
from fute.types import Floats, Outputs, Pool, TaskEmbedding

from .test_tupate import dataset_of, mentions, pool_of, probabilities, tupate
from .tiny_surrogates import load_tiny

pytestmark = pytest.mark.slow

FAMILIES = ["bert", "gpt2", "t5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("surrogates")


def three_classes() -> Outputs:
    return three_classes_of(pool_of())


def three_classes_of(pool: Pool) -> Outputs:
    texts = pool.inputs.texts
    which = mentions(texts, "cat dog bird fish") + mentions(texts, "big small")
    return Outputs("probabilities", np.eye(3, dtype=np.float32)[which] * 0.7 + 0.1)


def scores() -> Outputs:
    return Outputs("scores", np.array([[len(text)] for text in pool_of().inputs.texts], dtype=np.float32))


def half_answered() -> Outputs:
    outputs = probabilities(pool_of(), "the a")
    return Outputs("probabilities", outputs.values, answered=np.arange(40) % 4 != 0)


def subjects() -> list[Outputs]:
    pool = pool_of()
    return [probabilities(pool), three_classes(), probabilities(pool, "big small"), scores(), half_answered()]


def vector(result: TaskEmbedding | FuteError) -> Floats:
    assert isinstance(result, TaskEmbedding)
    return result.vector


def relative(a: Floats, b: Floats) -> float:
    return float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(b))


@pytest.mark.parametrize("kind", FAMILIES)
def test_gradients_of_models_together_equal_those_one_by_one(folder: Path, kind: str) -> None:
    surrogate = load_tiny(kind, folder, whole=True)
    method = tupate(surrogate)
    supervisions = [method.supervisor.model(outputs) for outputs in subjects()[:4]]
    rows = method._rows(supervisions[0])
    generator = torch.Generator().manual_seed(0)
    starts = torch.randn(4, *method._shared_start.shape, generator=generator) / 3
    heads = [torch.randn(s.targets.n_outputs, 32, generator=generator) / 4 for s in supervisions]

    def gradients(which: list[int]) -> torch.Tensor:
        targets = [supervisions[i].targets for i in which]
        models = PrefixedModels(method._sites, starts[which], targets, "mean", rows.reader)
        with torch.no_grad():
            for head, i in zip(models.heads, which, strict=True):
                head.weight.copy_(heads[i])
        found = models.answers(rows, np.arange(12), targets, models.prefix)
        losses = [row_losses(answers, wanted, "cross_entropy").mean() for answers, wanted in found]
        return torch.autograd.grad(torch.stack(losses).sum(), models.prefix)[0]

    for i, together in enumerate(gradients([0, 1, 2, 3])):
        assert relative(together.numpy(), gradients([i])[0].numpy()) < 1e-5


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("settings", [{}, {"dropout": 0.2, "start": "own", "checkpointing": True}])
def test_models_together_equal_models_one_by_one(folder: Path, kind: str, settings: dict[str, Any]) -> None:
    surrogate = load_tiny(kind, folder, whole=True)
    method = tupate(surrogate, **settings)
    alone = [method.model(outputs) for outputs in subjects()]
    together = tupate(surrogate, models_at_once=8, **settings).models(subjects())
    for one, other in zip(alone, together, strict=True):
        assert relative(vector(other), one.vector) < 1e-5
        assert isinstance(other, TaskEmbedding)
        assert other.metrics["rows"] == one.metrics["rows"]
        assert other.metrics["loss_last"] == pytest.approx(one.metrics["loss_last"], rel=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("max_rows", [1000, 20])
def test_the_order_of_the_pools_rows_does_not_matter(folder: Path, kind: str, max_rows: int) -> None:
    pool = pool_of()
    same = pool.inputs.take([*range(40), 3, 8])  # two texts from two sources each
    pool = Pool(same, [*pool.source_ids, "another", "another"])
    labels = mentions(same.texts, "cat dog bird fish")
    labels[40:] = 1 - labels[40:]  # and answered otherwise
    half = Outputs("scores", np.array([[len(text)] for text in same.texts], "f4"), answered=np.arange(42) % 4 != 0)
    outputs = [Outputs("labels", np.eye(2, dtype=np.float32)[labels]), three_classes_of(pool), half]
    order = np.random.default_rng(0).permutation(42)[::-1]
    assert list(order).index(40) < list(order).index(3)  # the sources of one text change places
    shuffled = Pool(same.take(order), [pool.source_ids[row] for row in order])
    settings: dict[str, Any] = {"max_rows": max_rows, "models_at_once": 8, "epochs_model": 1}
    surrogate = load_tiny(kind, folder, whole=True)
    first = tupate(surrogate, pool, **settings).models(outputs)
    second = tupate(surrogate, shuffled, **settings).models([each.take(order) for each in outputs])
    for one, other in zip(first, second, strict=True):
        assert vector(one).tobytes() == vector(other).tobytes()
    # Other answers to the same rows are another task: the rows were not only sorted, their answers came along.
    apart = tupate(surrogate, shuffled, **settings).models(outputs)
    assert relative(vector(apart[0]), vector(first[0])) > 0.1


def test_groups_of_one_give_the_same_bytes_as_single_models(folder: Path) -> None:
    surrogate = load_tiny("t5", folder, whole=True)
    alone = [tupate(surrogate).model(outputs).vector.tobytes() for outputs in subjects()]
    in_turn = [vector(each).tobytes() for each in tupate(surrogate).models(list(reversed(subjects())))]
    assert in_turn[::-1] == alone  # nor does it matter what was embedded before


def test_a_bad_model_does_not_spoil_its_group(folder: Path) -> None:
    surrogate = load_tiny("bert", folder)
    good = probabilities(pool_of())
    constant = Outputs("probabilities", np.full((40, 2), 0.5, dtype=np.float32))
    broken = Outputs("probabilities", np.where(np.arange(40)[:, None] == 3, np.nan, good.values))
    huge = Outputs("scores", scores().values)
    method = tupate(surrogate, models_at_once=8)
    results = method.models([good, constant, three_classes(), broken, huge])
    assert isinstance(results[1], OutputsError)
    assert isinstance(results[3], OutputsError)
    assert relative(vector(results[0]), method.model(good).vector) < 1e-3
    assert vector(results[2]).shape == vector(results[4]).shape


def test_a_model_whose_training_diverges_fails_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = tupate(load_tiny("bert", folder), models_at_once=8)
    spoiled, good = probabilities(pool_of(), "big small"), probabilities(pool_of())
    start = Tupate._start

    def with_nan(self: Tupate, subject: str) -> torch.Tensor:
        return start(self, subject) * (float("nan") if subject == spoiled.fingerprint else 1.0)

    expected = method.model(good).vector
    monkeypatch.setattr(Tupate, "_start", with_nan)
    results = method.models([spoiled, good])
    assert isinstance(results[0], MethodError)
    assert "the loss became nan" in str(results[0])
    assert relative(vector(results[1]), expected) < 1e-3


def test_a_group_that_does_not_fit_is_halved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = tupate(load_tiny("bert", folder), models_at_once=4)
    sizes: list[int] = []
    train = embed_module.train_prefixes

    def small_memory(sites: Any, rows: Any, targets: Any, *args: Any, **options: Any) -> Any:
        sizes.append(len(targets))
        if len(targets) > 1:
            raise torch.OutOfMemoryError
        return train(sites, rows, targets, *args, **options)

    monkeypatch.setattr(embed_module, "train_prefixes", small_memory)
    results = method.models([probabilities(pool_of(), words) for words in ("cat dog", "big small", "red blue")])
    assert sizes == [3, 1, 1, 1]
    assert all(isinstance(each, TaskEmbedding) for each in results)


def test_a_model_that_does_not_fit_alone_is_an_error_with_advice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(embed_module, "train_prefixes", no_memory)
    with pytest.raises(MethodError, match="does not fit into memory; lower batch_size_dataset"):
        tupate(load_tiny("bert", folder)).model(probabilities(pool_of()))
    with pytest.raises(MethodError, match="does not fit into memory"):
        tupate(load_tiny("bert", folder)).dataset(dataset_of())


def test_group_sizes_follow_the_device() -> None:
    assert TupateConfig().group_size("cpu") == 1
    assert TupateConfig().group_size("cuda") == AUTO_GROUP
    assert TupateConfig(models_at_once=5).group_size("cpu") == 5


def test_crosscov_takes_several_models_too() -> None:
    pool = pool_of(60)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 8)).astype(np.float32)
    method = Crosscov(CrosscovConfig(components=4), lambda table: features[: len(table)], pool)
    constant = Outputs("probabilities", np.full((60, 2), 0.5, dtype=np.float32))
    results = method.models([probabilities(pool), constant])
    assert vector(results[0]).tobytes() == method.model(probabilities(pool)).vector.tobytes()
    assert isinstance(results[1], OutputsError)
