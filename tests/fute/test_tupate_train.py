from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fute.methods.tupate.config import TupateConfig
from fute.methods.tupate.embed import Tupate
from fute.methods.tupate.prefixed import initial_prefix
from fute.methods.tupate.train import _kept_by_dropout, epoch_batches
from fute.surrogate import tokens
from fute.surrogate.load import Surrogate
from fute.surrogate.tokens import parts_of_like_length, tokenise
from fute.types import Outputs, Pool, TextTable

from .slow_surrogates import SLOW
from .tiny_surrogates import build_model, load_tiny

TEXTS = ["the cat sat", "a big red dog ran", "bird", "fish swam under the old log and", "blue mat on"]
SOFT = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9], [1.0, 0.0]], dtype=np.float32)


def method_of(kind: str, folder: Path) -> Tupate:
    pool = Pool(TextTable(TEXTS * 4), ["made up"] * 20)
    return Tupate(TupateConfig(prefix_tokens=3), load_tiny(kind, folder, whole=True), pool, 0)


def exact_method(surrogate: Surrogate, **settings: Any) -> Tupate:
    """All rows of the pool in one batch, five steps, in the precision of the surrogate's weights."""
    config = {"prefix_tokens": 3, "epochs_model": 5, "batch_size_model": 64, "warmup": 0.25, "keep_gib": 0, **settings}
    method = Tupate(TupateConfig(**config), surrogate, Pool(TextTable(TEXTS), ["made up"] * len(TEXTS)), 0)
    method._shared_start = method._shared_start.to(next(surrogate.model.parameters()).dtype)
    return method


def slow_training(kind: str, method: Tupate) -> tuple[Tensor, list[float]]:
    """The trained prefix and the loss of each step: the model head by head and token by token, AdamW written out."""
    config = method.config
    model = build_model(kind).double().eval().requires_grad_(False)
    tokens = tokenise(method.surrogate, TextTable(TEXTS))
    parameters = [method._shared_start.double(), torch.zeros(2, 32).double(), torch.zeros(2).double()]
    means = [torch.zeros_like(p) for p in parameters]
    squares = [torch.zeros_like(p) for p in parameters]
    dropout = torch.Generator().manual_seed(method._training_seed)
    losses = []
    # Five steps, a quarter of which (two) warm up in thirds; then down to zero in thirds.
    for step, factor in enumerate([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3], start=1):
        prefix, weight, bias = (p.clone().requires_grad_() for p in parameters)
        kept = prefix
        if config.dropout:
            dropped = torch.rand(prefix.shape, generator=dropout) < config.dropout
            kept = torch.where(dropped, 0.0, prefix / (1 - config.dropout))
        loss = torch.zeros((), dtype=torch.float64)
        for ids, wanted in zip(tokens.ids, SOFT, strict=True):
            states = SLOW[kind](model, list(ids), kept)
            read = states.mean(dim=0)
            if config.pooling == "token":
                read = states[0] if kind == "bert" else states[-1]
            answer = weight @ read + bias
            if config.loss == "binary_cross_entropy":
                terms = [float(w) * a.sigmoid().log() + (1 - float(w)) * (1 - a.sigmoid()).log()
                         for w, a in zip(wanted, answer, strict=True)]  # fmt: skip
                loss = loss - sum(terms) / 2 / len(TEXTS)
            else:
                terms = [float(w) * a for w, a in zip(wanted, answer.log_softmax(dim=0), strict=True)]
                loss = loss - sum(terms) / len(TEXTS)
        losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, [prefix, weight, bias])
        for i, gradient in enumerate(gradients):
            means[i] = 0.9 * means[i] + 0.1 * gradient
            squares[i] = 0.999 * squares[i] + 0.001 * gradient**2
            mean, square = means[i] / (1 - 0.9**step), squares[i] / (1 - 0.999**step)
            parameters[i] = parameters[i] - 1e-2 * factor * mean / (square.sqrt() + 1e-8)
    return parameters[0], losses


def relative(measured: Any, expected: Any) -> float:
    return float(np.linalg.norm(np.asarray(measured) - np.asarray(expected)) / np.linalg.norm(np.asarray(expected)))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize(
    "settings", [{}, {"loss": "binary_cross_entropy", "pooling": "token", "dropout": 0.3, "embedding": "raw"}]
)
def test_a_models_vector_equals_a_slow_version_in_float64(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    surrogate = load_tiny(kind, tmp_path, whole=True)
    surrogate.model.double()
    method = exact_method(surrogate, **settings)
    embedding = method.model(Outputs("probabilities", SOFT))
    prefix, losses = slow_training(kind, method)
    change = prefix if settings else prefix - method._shared_start
    per_layer = 2 if kind == "t5" else 1  # self- and cross-attention in turn
    layers = [change[i : i + per_layer].flatten() for i in range(0, len(change), per_layer)]
    expected = sum(layers) / torch.linalg.vector_norm(sum(layers))
    assert relative(embedding.vector, expected) < 1e-6  # targets, and the variance in T5's norms, are float32
    assert embedding.metrics["loss_first"] == pytest.approx(losses[0], rel=1e-6)
    assert embedding.metrics["loss_last"] == pytest.approx(losses[-1], rel=1e-6)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_training_in_float32_stays_near_float64(tmp_path: Path, kind: str) -> None:
    vectors = []
    for double in (False, True):
        surrogate = load_tiny(kind, tmp_path, whole=True)
        surrogate.model.to(torch.float64 if double else torch.float32)
        vectors.append(exact_method(surrogate).model(Outputs("probabilities", SOFT)).vector)
    assert relative(*vectors) < 1e-5


def test_a_pass_reads_every_row_once_in_batches_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 90, 100)
    batches = list(epoch_batches(lengths, 16, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(100))
    assert sorted(len(batch) for batch in batches) == [4, 16, 16, 16, 16, 16, 16]
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert padded < 1.2 * lengths.sum()
    longest = [int(lengths[batch].max()) for batch in batches]
    assert longest != sorted(longest)
    again = list(epoch_batches(lengths, 16, np.random.default_rng(1)))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_dropout_leaves_out_its_share_and_keeps_the_mean() -> None:
    kept = _kept_by_dropout(torch.ones(3, 50, 2, 4, 16, 8), 0.3, torch.Generator().manual_seed(0))
    assert kept is not None
    assert kept.shape == (50, 2, 4, 16, 8)  # the same for all models
    assert sorted(kept.unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert float(kept.mean()) == pytest.approx(1, abs=0.02)
    assert _kept_by_dropout(torch.ones(3, 2), 0.0, torch.Generator()) is None


def test_the_start_is_xavier_uniform_and_follows_the_seed_alone(tmp_path: Path) -> None:
    sites = method_of("bert", tmp_path)._sites
    start = initial_prefix(sites, 16, seed=3)
    assert start.shape == (2, 2, 4, 16, 8)
    bound = (6 / (16 + 32)) ** 0.5
    assert 0.95 * bound < float(start.abs().max()) <= bound
    assert float(start.std()) == pytest.approx(bound / 3**0.5, rel=0.05)
    assert torch.equal(start, initial_prefix(sites, 16, seed=3))
    assert not torch.equal(start, initial_prefix(sites, 16, seed=4))


def test_a_batch_is_read_in_parts_of_like_length_and_trains_as_one() -> None:
    lengths = np.array([2] * 20 + [3] * 10 + [30] * 12)
    parts = parts_of_like_length(lengths, np.arange(42))
    assert np.concatenate(parts).tolist() == list(range(42))
    assert [len(part) for part in parts] == [20, 10, 12]
    padded = sum(len(part) * lengths[part].max() for part in parts)
    assert padded <= 1.15 * lengths.sum() < 42 * 30
    assert [len(part) for part in parts_of_like_length(lengths[:8], np.arange(8))] == [8]


def test_parts_of_a_step_give_the_step_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(["cat", "dog", "ran", "mat"][(i + j) % 4] for j in range(length))
             for i, length in enumerate([1] * 12 + [2] * 12 + [20] * 12)]  # fmt: skip
    pool = Pool(TextTable(texts), ["made up"] * len(texts))
    config = TupateConfig(prefix_tokens=3, batch_size_model=36, epochs_model=3, dropout=0.2)
    method = Tupate(config, load_tiny("bert", tmp_path), pool, 0)
    answers = np.random.default_rng(0).dirichlet([1, 1, 1], len(texts)).astype(np.float32)
    in_parts = method.model(Outputs("probabilities", answers)).vector
    monkeypatch.setattr(tokens, "WASTE", 1e9)
    whole = method.model(Outputs("probabilities", answers)).vector
    assert 0 < np.abs(in_parts - whole).max() < 1e-4
