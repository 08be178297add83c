"""Fine-tuning a whole surrogate, and a new head, on what a subject teaches."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fute.errors import MethodError
from fute.methods.heads import Head, head_answers, row_losses, target_batch
from fute.methods.schedule import batch_for_two_steps, warmup_then_decay
from fute.methods.supervision import Supervision
from fute.methods.taskemb.config import TaskembConfig
from fute.seeding import seeded
from fute.surrogate.load import Surrogate
from fute.surrogate.states import token_states
from fute.surrogate.tokens import pad_batch, parts_of_like_length
from fute.train.finetune import length_buckets

MAX_GRADIENT_NORM = 1.0


def new_head(n_outputs: int, width: int, deviation: float, seed: int, like: Tensor) -> Head:
    """A head of zeros, or of small random numbers that follow from the seed; where `like` is, and of its type."""
    head = Head.zeros(n_outputs, width, like.device, like.dtype)
    if deviation > 0:
        start = torch.randn(n_outputs, width, generator=torch.Generator().manual_seed(seed)) * deviation
        head.weight.data.copy_(start)
    return head


def answers_and_losses(
    surrogate: Surrogate, head: Head, supervision: Supervision, rows: NDArray[np.intp], config: TaskembConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """What surrogate and head say of some rows, each row's loss (rows,), and the targets' values."""
    inputs = pad_batch(surrogate, supervision.tokens, rows)
    wanted = target_batch(supervision.targets, supervision.tokens, rows, inputs["attention_mask"], surrogate.family)
    answers = head_answers(head, token_states(surrogate, inputs), wanted, config.pooling, surrogate.family)
    return answers, row_losses(answers, wanted, config.loss), wanted.values


def fine_tune(
    surrogate: Surrogate,
    trained: Sequence[torch.nn.Parameter],
    supervision: Supervision,
    *,
    config: TaskembConfig,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> tuple[Head, dict[str, float]]:
    """Train a surrogate's weights in place, and a head; batches of rows of like length, drawn anew in each pass.

    AdamW without decay of the weights, linear warm-up, then linear decay to zero, gradients clipped to length 1. With
    one seed a CPU gives the same bytes again.

    Args:
        trained: the parameters that the losses depend on; they require gradients on return.

    Returns:
        The head, and loss_first and loss_last (means over the first and the last pass), steps, rows, rows_truncated,
        seconds, and agreement (classes: share of rows whose most probable class was the target's, in the last pass).

    Raises:
        MethodError: the loss or a weight became NaN or infinite.
    """
    started = time.perf_counter()
    head = new_head(supervision.targets.n_outputs, surrogate.width, config.head_deviation, seed, trained[0])
    for parameter in trained:
        parameter.requires_grad_(True)
    head_rate = learning_rate if config.head_learning_rate is None else config.head_learning_rate
    groups = [
        {"params": list(trained), "lr": learning_rate},
        {"params": head.parameters, "lr": head_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
    n_rows, classes = len(supervision), supervision.targets.objective == "classes"
    batch_size = batch_for_two_steps(config.batch_size, n_rows, epochs)
    n_steps = epochs * math.ceil(n_rows / batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_then_decay(n_steps, config.warmup))
    order = np.random.default_rng(seed)
    losses: list[float] = []
    agreement = 0.0
    step = 0
    surrogate.model.train(config.dropout)
    # Dropout draws from the process's own generator, so it must belong to this training alone.
    with seeded(seed % 2**32) if config.dropout else nullcontext():
        for _ in range(epochs):
            total = torch.zeros((), device=surrogate.device)
            agreed = torch.zeros((), device=surrogate.device)
            for rows in length_buckets(supervision.tokens.lengths, batch_size, order):
                optimizer.zero_grad(set_to_none=True)
                # One step, but no more padding than need be: gradients of its parts add up.
                for part in parts_of_like_length(supervision.tokens.lengths, rows):
                    answers, per_row, wanted = answers_and_losses(surrogate, head, supervision, part, config)
                    loss = per_row.sum()
                    (loss / len(rows)).backward()
                    with torch.no_grad():
                        total += loss
                        if classes:
                            agreed += (answers.argmax(dim=1) == wanted.argmax(dim=1)).sum()
                torch.nn.utils.clip_grad_norm_([*trained, *head.parameters], MAX_GRADIENT_NORM)
                optimizer.step()
                schedule.step()
                step += 1
            # Looked at once a pass: asking a GPU for the number after each step would make it wait.
            losses.append(float(total) / n_rows)
            agreement = float(agreed) / n_rows
            if not math.isfinite(losses[-1]) or not all(bool(torch.isfinite(p).all()) for p in trained):
                raise MethodError(
                    f"fine-tuning diverged: the loss became {losses[-1]} after {step} steps at learning rates "
                    f"{learning_rate} (head: {head_rate}); lower them"
                )
    surrogate.model.eval()
    metrics = {
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "steps": float(step),
        "rows": float(n_rows),
        "rows_truncated": float(supervision.tokens.truncated.sum()),
        "seconds": time.perf_counter() - started,
    }
    if classes:
        metrics["agreement"] = agreement
    return head, metrics
