"""Training a prefix and a head on a frozen surrogate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from fute.errors import MethodError
from fute.methods.tupate.config import TupateConfig
from fute.methods.tupate.targets import Targets
from fute.surrogate.load import Surrogate
from fute.surrogate.prefix_attention import AttentionSite, prefixes
from fute.surrogate.tokens import Tokens, mean_over_mask, pad_batch

Progress = Callable[[int, int], None]
"""Told (steps done, steps altogether)."""


@dataclass(frozen=True, eq=False)
class TrainedPrefix:
    """What training came to.

    Attributes:
        prefix: (layers, 2, heads, prefix_tokens, head_dim) float32 on the CPU; keys first, then values.
        metrics: loss_first and loss_last (means over the first and the last pass), steps, rows, rows_truncated,
            seconds, and agreement (share of rows whose most probable class was the target's, in the last pass).
    """

    prefix: Tensor
    metrics: dict[str, float]


def initial_prefix(sites: Sequence[AttentionSite], prefix_tokens: int, seed: int) -> Tensor:
    """The start that all embeddings of a space share: Xavier uniform, as by Zhou et al. 2022.

    Returns:
        (layers, 2, heads, prefix_tokens, head_dim) float32.
    """
    heads, head_dim = sites[0].heads, sites[0].head_dim
    generator = torch.Generator().manual_seed(seed)
    # One matrix (prefix_tokens, heads * head_dim) for the keys and one for the values of each layer.
    flat = torch.empty(len(sites), 2, prefix_tokens, heads * head_dim)
    for matrix in flat.flatten(0, 1):
        nn.init.xavier_uniform_(matrix, generator=generator)
    return flat.view(len(sites), 2, prefix_tokens, heads, head_dim).transpose(2, 3).contiguous()


def epoch_batches(
    lengths: NDArray[np.int64], batch_size: int, generator: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """One pass: rows of like length together, so that little is padded; ties and the order of batches at random."""
    shuffled = generator.permutation(len(lengths))
    by_length = shuffled[np.argsort(lengths[shuffled], kind="stable")]
    starts = np.arange(0, len(by_length), batch_size)
    for start in generator.permutation(starts):
        yield by_length[start : start + batch_size]


def train_prefix(
    surrogate: Surrogate,
    sites: Sequence[AttentionSite],
    tokens: Tokens,
    targets: Targets,
    start: Tensor,
    *,
    config: TupateConfig,
    epochs: int,
    seed: int,
    progress: Progress | None = None,
) -> TrainedPrefix:
    """Train a prefix and a linear head on the mean of the last hidden states; all else stays frozen.

    AdamW, linear warm-up, then linear decay to zero. Nothing is drawn from global random state: with one seed a CPU
    gives the same bytes again. The head starts at zero, so that the order of the classes has no influence.

    Args:
        tokens, targets: n inputs and what to say of them.
        start: (layers, 2, heads, prefix_tokens, head_dim), left unchanged.

    Raises:
        MethodError: the loss became NaN or infinite.
    """
    started = time.perf_counter()
    device = surrogate.device
    prefix = start.to(device, copy=True).requires_grad_()
    n_outputs = targets.values.shape[1]
    weight = torch.zeros(n_outputs, surrogate.width, device=device, requires_grad=True)
    bias = torch.zeros(n_outputs, device=device, requires_grad=True)
    optimizer = torch.optim.AdamW([prefix, weight, bias], lr=config.learning_rate, weight_decay=0.0)
    n_steps = epochs * math.ceil(len(tokens) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmup_then_decay(n_steps, config.warmup))
    order = np.random.default_rng(seed)
    dropout = torch.Generator().manual_seed(seed)
    wanted = torch.from_numpy(targets.values).to(device)
    step = 0
    losses: list[float] = []
    agreement = 0.0
    for _ in range(epochs):
        total = torch.zeros((), device=device)
        agreed = torch.zeros((), device=device)
        for rows in epoch_batches(tokens.lengths, config.batch_size, order):
            batch = pad_batch(surrogate, tokens, rows)
            dropped = _drop(prefix, config.dropout, dropout)
            by_module = {site.module: (dropped[i, 0], dropped[i, 1]) for i, site in enumerate(sites)}
            with prefixes(by_module), surrogate.autocast():
                states = surrogate.model(**batch).last_hidden_state  # (rows, length, width)
            answers = mean_over_mask(states, batch["attention_mask"]) @ weight.T + bias  # (rows, outputs)
            target = wanted[torch.from_numpy(rows).to(device)]
            loss = F.cross_entropy(answers, target) if targets.is_distribution else F.mse_loss(answers, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            with torch.no_grad():
                total += loss * len(rows)
                agreed += (answers.argmax(dim=1) == target.argmax(dim=1)).sum()
            if progress is not None:
                progress(step, n_steps)
        # Looked at once a pass: asking a GPU for the number after each step would make it wait.
        losses.append(float(total) / len(tokens))
        if not math.isfinite(losses[-1]) or not bool(torch.isfinite(prefix).all()):
            raise MethodError(
                f"the loss became {losses[-1]} after {step} steps at learning rate {config.learning_rate}; lower it"
            )
        agreement = float(agreed) / len(tokens)
    metrics = {
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "steps": float(step),
        "rows": float(len(tokens)),
        "rows_truncated": float(tokens.truncated.sum()),
        "seconds": time.perf_counter() - started,
    }
    if targets.is_distribution:
        metrics["agreement"] = agreement
    return TrainedPrefix(prefix.detach().cpu(), metrics)


def _warmup_then_decay(n_steps: int, warmup: float) -> Callable[[int], float]:
    """Factor of the learning rate at a step: it rises over `warmup * n_steps`, then falls to zero."""
    n_warmup = min(n_steps - 1, math.ceil(warmup * n_steps))

    def factor(step: int) -> float:
        if step < n_warmup:
            return (step + 1) / (n_warmup + 1)
        return (n_steps - step) / (n_steps - n_warmup)

    return factor


def _drop(prefix: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    if rate == 0:
        return prefix
    keep = torch.rand(prefix.shape, generator=generator) >= rate  # drawn on the CPU: the same on every device
    return prefix * keep.to(prefix.device) / (1 - rate)
