from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fute.methods.supervision import Supervision
from fute.methods.targets import Targets
from fute.methods.tupate.config import TupateConfig
from fute.methods.tupate.embed import Tupate
from fute.methods.tupate.prefixed import TrainingRows, initial_prefix
from fute.methods.tupate.train import (
    Recipe,
    TrainedPrefix,
    epoch_batches,
    train_prefixes,
)
from fute.surrogate import tokens
from fute.surrogate.reader import Reader
from fute.surrogate.tokens import parts_of_like_length, tokenise
from fute.types import Outputs, Pool, TextTable

from .slow_surrogates import SLOW
from .tiny_surrogates import build_model, load_tiny

TEXTS = ["the cat sat", "a big red dog ran", "bird", "fish swam under the old log and", "blue mat on"]


def method_of(kind: str, folder: Path) -> Tupate:
    pool = Pool(TextTable(TEXTS * 4), ["made up"] * 20)
    return Tupate(TupateConfig(prefix_tokens=3), load_tiny(kind, folder, whole=True), pool, 0)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_training_equals_a_slow_version_in_float64(tmp_path: Path, kind: str) -> None:
    """All rows in one batch; the model head by head and token by token, AdamW and its schedule written out."""
    method = method_of(kind, tmp_path)
    tokens = tokenise(method.surrogate, TextTable(TEXTS))
    start = initial_prefix(method._sites, 3, seed=1)
    soft = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9], [1.0, 0.0]], dtype=np.float32)
    recipe = Recipe(
        epochs=8, batch_size=8, learning_rate=1e-2, warmup=0.25, dropout=0.0, loss="cross_entropy", pooling="mean"
    )
    supervision = Supervision(tokens, Targets("classes", soft))
    rows = TrainingRows(supervision, Reader(method.surrogate, tokens, 1.0), np.arange(5))
    [trained] = train_prefixes(method._sites, rows, [supervision.targets], start[None], recipe, seed=0)
    assert isinstance(trained, TrainedPrefix)

    model = build_model(kind).double().eval().requires_grad_(False)
    parameters = [start.double(), torch.zeros(2, 32).double(), torch.zeros(2).double()]
    means = [torch.zeros_like(p) for p in parameters]
    squares = [torch.zeros_like(p) for p in parameters]
    losses = []
    # 8 steps, 2 of warm-up: thirds up to the peak, then down to zero in sixths.
    for step, factor in enumerate([1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6], start=1):
        prefix, weight, bias = (p.clone().requires_grad_() for p in parameters)
        loss = torch.zeros((), dtype=torch.float64)
        for ids, wanted in zip(tokens.ids, soft, strict=True):
            answer = (weight @ SLOW[kind](model, list(ids), prefix).mean(dim=0) + bias).log_softmax(dim=0)
            loss = loss - sum(float(w) * a for w, a in zip(wanted, answer, strict=True)) / len(TEXTS)
        losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, [prefix, weight, bias])
        for i, gradient in enumerate(gradients):
            means[i] = 0.9 * means[i] + 0.1 * gradient
            squares[i] = 0.999 * squares[i] + 0.001 * gradient**2
            mean, square = means[i] / (1 - 0.9**step), squares[i] / (1 - 0.999**step)
            parameters[i] = parameters[i] - 1e-2 * factor * mean / (square.sqrt() + 1e-8)

    assert trained.metrics["loss_first"] == pytest.approx(losses[0], rel=1e-5)
    assert trained.metrics["loss_last"] == pytest.approx(losses[-1], rel=1e-4)
    change, slow_change = trained.prefix - start, parameters[0] - start.double()
    relative = float(torch.linalg.vector_norm(change - slow_change) / torch.linalg.vector_norm(slow_change))
    assert relative < 1e-3  # Adam divides by the gradient's own size, so rounding of small gradients shows


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
