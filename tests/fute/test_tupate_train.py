from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fute.methods.tupate.config import TupateConfig
from fute.methods.tupate.targets import Targets
from fute.methods.tupate.train import epoch_batches, initial_prefix, train_prefix
from fute.surrogate.prefix_attention import attention_sites, enable_prefixes
from fute.surrogate.tokens import pad_batch, tokenise
from fute.types import TextTable

from .tiny_surrogates import build_model, load_tiny, slow_bert

TEXTS = ["the cat sat", "a big red dog ran", "bird", "fish swam under the old log and", "blue mat on"]


def test_training_equals_a_slow_version_in_float64(tmp_path: Path) -> None:
    """All rows in one batch; the model head by head and token by token, AdamW and its schedule written out."""
    surrogate = load_tiny("bert", tmp_path)
    enable_prefixes(surrogate.model)
    tokens = tokenise(surrogate, TextTable(TEXTS))
    sites = attention_sites(lambda: surrogate.model(**pad_batch(surrogate, tokens, np.arange(2))))
    start = initial_prefix(sites, 3, seed=1)
    soft = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9], [1.0, 0.0]], dtype=np.float32)
    config = TupateConfig(batch_size=8, learning_rate=1e-2, warmup=0.25)
    trained = train_prefix(
        surrogate, sites, tokens, Targets(soft, is_distribution=True), start, config=config, epochs=8, seed=0
    )

    model = build_model("bert").double().eval().requires_grad_(False)
    parameters = [start.double(), torch.zeros(2, 32).double(), torch.zeros(2).double()]
    means = [torch.zeros_like(p) for p in parameters]
    squares = [torch.zeros_like(p) for p in parameters]
    losses = []
    # 8 steps, 2 of warm-up: thirds up to the peak, then down to zero in sixths.
    for step, factor in enumerate([1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6], start=1):
        prefix, weight, bias = (p.clone().requires_grad_() for p in parameters)
        loss = torch.zeros((), dtype=torch.float64)
        for ids, wanted in zip(tokens.ids, soft, strict=True):
            answer = (weight @ slow_bert(model, list(ids), prefix).mean(dim=0) + bias).log_softmax(dim=0)
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
    surrogate = load_tiny("bert", tmp_path)
    enable_prefixes(surrogate.model)
    tokens = tokenise(surrogate, TextTable(TEXTS))
    sites = attention_sites(lambda: surrogate.model(**pad_batch(surrogate, tokens, np.arange(2))))
    start = initial_prefix(sites, 16, seed=3)
    assert start.shape == (2, 2, 4, 16, 8)
    bound = (6 / (16 + 32)) ** 0.5
    assert 0.95 * bound < float(start.abs().max()) <= bound
    assert float(start.std()) == pytest.approx(bound / 3**0.5, rel=0.05)
    assert torch.equal(start, initial_prefix(sites, 16, seed=3))
    assert not torch.equal(start, initial_prefix(sites, 16, seed=4))
