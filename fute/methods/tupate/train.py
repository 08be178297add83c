"""Training prefixes and heads on a frozen surrogate, those of several models in one pass."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fute.errors import MethodError
from fute.methods.heads import Loss, Pooling, TargetBatch, row_losses
from fute.methods.schedule import batch_for_two_steps, warmup_then_decay
from fute.methods.targets import Targets
from fute.methods.tupate.prefixed import PrefixedModels, TrainingRows
from fute.surrogate.prefix_attention import AttentionSite
from fute.surrogate.tokens import parts_of_like_length


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a prefix is trained: AdamW with a linear warm-up over a share of the steps, then a linear fall to zero."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float
    dropout: float
    loss: Loss
    pooling: Pooling
    patience: int | None = None


@dataclass(frozen=True, eq=False)
class TrainedPrefix:
    """What training came to.

    Attributes:
        prefix: (sites, 2, heads, prefix_tokens, head_dim) float32 on the CPU; keys first, then values.
        metrics: loss_first and loss_last (means over the first and the last pass), steps, rows, rows_truncated,
            seconds, and agreement (share of rows whose most probable class or span was the target's, in the last
            pass); with early stopping loss_held_out (the lowest) and passes.
    """

    prefix: Tensor
    metrics: dict[str, float]


def epoch_batches(
    lengths: NDArray[np.int64], batch_size: int, generator: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """One pass: rows of like length together, so that little is padded; ties and the order of batches at random."""
    shuffled = generator.permutation(len(lengths))
    by_length = shuffled[np.argsort(lengths[shuffled], kind="stable")]
    starts = np.arange(0, len(by_length), batch_size)
    for start in generator.permutation(starts):
        yield by_length[start : start + batch_size]


def train_prefixes(
    sites: Sequence[AttentionSite],
    rows: TrainingRows,
    targets: Sequence[Targets],
    starts: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    held_out: TrainingRows | None = None,
) -> list[TrainedPrefix | MethodError]:
    """Train the prefixes and linear heads of K models over the same rows in one pass; all else stays frozen.

    The models do not see each other: each comes out as if it had been trained alone, with the same order of rows and
    the same dropout. Nothing is drawn from global random state: with one seed a CPU gives the same bytes again. Heads
    start at zero, so that from one start the order of the classes has no influence.

    Args:
        targets: what each of K models says of the rows.
        starts: (K, sites, 2, heads, prefix_tokens, head_dim), left unchanged.
        held_out: with recipe.patience and one model: rows that say when to stop, and which prefix to keep.

    Returns:
        For each model its prefix, or a MethodError where its loss became NaN or infinite.
    """
    started = time.perf_counter()
    models = PrefixedModels(sites, starts, targets, recipe.pooling, rows.reader)
    optimizer = torch.optim.AdamW(models.parameters, lr=recipe.learning_rate, weight_decay=0.0)
    tokens = rows.supervision.tokens
    batch_size = batch_for_two_steps(recipe.batch_size, len(tokens), recipe.epochs)
    n_steps = recipe.epochs * math.ceil(len(tokens) / batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_then_decay(n_steps, recipe.warmup))
    order = np.random.default_rng(seed)
    dropout = torch.Generator().manual_seed(seed)
    stop = None if held_out is None or recipe.patience is None else EarlyStop(recipe.patience)
    step = 0
    passes: list[tuple[Tensor, Tensor]] = []  # (K,) summed losses and (K,) agreements of each pass
    for _ in range(recipe.epochs):
        total, agreed = torch.zeros(2, len(targets), device=models.prefix.device)
        for batch in epoch_batches(tokens.lengths, batch_size, order):
            optimizer.zero_grad(set_to_none=True)
            keep = _kept_by_dropout(models.prefix, recipe.dropout, dropout)
            # One step, but no more padding than need be: gradients of its parts add up.
            for part in parts_of_like_length(tokens.lengths, batch):
                found = models.answers(rows, part, targets, models.prefix if keep is None else models.prefix * keep)
                losses = torch.stack([row_losses(answers, wanted, recipe.loss).sum() for answers, wanted in found])
                (losses / len(batch)).sum().backward()
                with torch.no_grad():
                    total += losses
                    agreed += torch.stack([_agreeing(answers, wanted) for answers, wanted in found])
            optimizer.step()
            schedule.step()
            step += 1
        passes.append((total, agreed))
        # Looked at once a pass: asking a GPU for the number after each step would make it wait.
        if not bool(torch.isfinite(total).any()):
            break
        # After one step the prefix still is its start (see batch_for_two_steps): no candidate for the best.
        if stop is not None and held_out is not None and step >= 2:
            loss = _held_out_loss(models, held_out, recipe)
            if stop.after(loss, models.prefix):
                break
    prefix = models.prefix.detach().cpu() if stop is None or stop.best is None else stop.best
    seconds = (time.perf_counter() - started) / len(targets)
    results: list[TrainedPrefix | MethodError] = []
    for k, target in enumerate(targets):
        losses_of = [float(total[k]) / len(tokens) for total, _ in passes]
        if not np.isfinite(losses_of).all() or not bool(torch.isfinite(prefix[k]).all()):
            bad = next((loss for loss in losses_of if not math.isfinite(loss)), losses_of[-1])
            results.append(
                MethodError(
                    f"the loss became {bad} within {step} steps at learning rate {recipe.learning_rate}; lower it"
                )
            )
            continue
        metrics = {
            "loss_first": losses_of[0],
            "loss_last": losses_of[-1],
            "steps": float(step),
            "rows": float(len(tokens)),
            "rows_truncated": float(tokens.truncated.sum()),
            "seconds": seconds,
        }
        if target.objective != "numbers":
            metrics["agreement"] = float(passes[-1][1][k]) / len(tokens)
        if stop is not None:
            metrics |= {"loss_held_out": stop.lowest, "passes": float(len(passes))}
        results.append(TrainedPrefix(prefix[k], metrics))
    return results


def _held_out_loss(models: PrefixedModels, rows: TrainingRows, recipe: Recipe) -> float:
    n = len(rows.supervision)
    by_length = np.argsort(rows.supervision.tokens.lengths, kind="stable")
    total = 0.0
    with torch.no_grad():
        for start in range(0, n, recipe.batch_size):
            batch = by_length[start : start + recipe.batch_size]
            found = models.answers(rows, batch, [rows.supervision.targets], models.prefix)
            total += sum(float(row_losses(answers, wanted, recipe.loss).sum()) for answers, wanted in found)
    return total / n


def _agreeing(answers: Tensor, wanted: TargetBatch) -> Tensor:
    """How many rows have the target's class, or the start and end of its first candidate, as the most probable."""
    if wanted.positions is None:
        return (answers.argmax(dim=1) == wanted.values.argmax(dim=1)).sum()
    best = wanted.values.argmax(dim=1)
    return (
        (answers.argmax(dim=1) == wanted.positions[torch.arange(len(best), device=best.device), best]).all(dim=1).sum()
    )


def _kept_by_dropout(prefix: Tensor, rate: float, generator: torch.Generator) -> Tensor | None:
    """Factors of dropout, the same for each of K models, (sites, ...); None for no dropout."""
    if rate == 0:
        return None
    keep = torch.rand(prefix.shape[1:], generator=generator) >= rate  # drawn on the CPU: the same on every device
    return keep.to(prefix.device) / (1 - rate)


class EarlyStop:
    """Remembers the best prefixes, and says when too many passes brought none that are better."""

    def __init__(self, patience: int) -> None:
        self.lowest = math.inf
        self.best: Tensor | None = None
        self._patience = patience
        self._since = 0

    def after(self, loss: float, prefix: Tensor) -> bool:
        """Whether to stop."""
        self._since += 1
        if loss < self.lowest:
            self.lowest, self.best, self._since = loss, prefix.detach().cpu().clone(), 0
        return self._since >= self._patience
