"""Which parameters' row gradients the hooks get right, found out by comparison with autograd, one row at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fute.errors import MethodError
from fute.methods.taskemb.row_gradients import Totals, add_row_squares

LossesOf = Callable[[NDArray[np.intp]], Tensor]
"""Rows -> the loss of each, (rows,), by a forward pass through the model."""

RELATIVE_TOLERANCE = 1e-3
NOISE = 1e-9
"""Share of the largest squared gradient below which a number is rounding: keys' biases have no gradient at all."""


@dataclass(frozen=True)
class Coverage:
    """The parameters of a model, each by its first name (a shared one counts once).

    Attributes:
        hooked: their row gradients come from hooks.
        one_by_one: they need a backward pass for each row (MPNet's relative positions, say).
        unused: no loss depends on them (BERT's pooler); they are no part of an embedding.
    """

    hooked: tuple[str, ...]
    one_by_one: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def used(self) -> tuple[str, ...]:
        return (*self.hooked, *self.one_by_one)


def find_coverage(model: nn.Module, losses_of: LossesOf, rows: NDArray[np.intp]) -> Coverage:
    """Compare hooks and autograd on a few rows.

    Args:
        rows: two or more, of different lengths, and not as many as the longest has tokens: a layer that mixes up rows
            and tokens must show.

    Raises:
        MethodError: no parameter gets a gradient, or one is not finite.
    """
    names = [name for name, _ in model.named_parameters()]
    truth: Totals = {}
    for row in rows:
        add_one_row(model, names, losses_of, row, truth)
    if not truth or not all(bool(torch.isfinite(t).all()) for t in truth.values()):
        raise MethodError("the surrogate's gradients are not numbers, or there are none; look at its weights")
    measured: Totals = {}
    add_row_squares(model, lambda: losses_of(rows), len(rows), measured)
    largest = max(float(t.max()) for t in truth.values())
    right = [n for n in truth if n in measured and _equal(measured[n], truth[n], NOISE * largest)]
    return Coverage(
        hooked=tuple(right),
        one_by_one=tuple(n for n in truth if n not in right),
        unused=tuple(n for n in names if n not in truth),
    )


def add_one_row(model: nn.Module, names: Sequence[str], losses_of: LossesOf, row: np.intp, totals: Totals) -> set[str]:
    """Add the squared gradient of one row's loss by autograd; return the parameters that have one."""
    parameters = dict(model.named_parameters())
    chosen = {name: parameters[name] for name in names}
    asked = {name: p.requires_grad for name, p in model.named_parameters()}
    try:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen)
        loss = losses_of(np.array([row])).sum()
        gradients = torch.autograd.grad(loss, list(chosen.values()), allow_unused=True)
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(asked[name])
    there = {name: gradient for name, gradient in zip(chosen, gradients, strict=True) if gradient is not None}
    for name, gradient in there.items():
        if name not in totals:
            totals[name] = torch.zeros_like(gradient)
        totals[name].addcmul_(gradient, gradient)
    return set(there)


def _equal(measured: Tensor, truth: Tensor, noise: float) -> bool:
    off = torch.linalg.vector_norm((measured - truth).clamp(min=-1e30, max=1e30))
    return bool(off <= RELATIVE_TOLERANCE * torch.linalg.vector_norm(truth) + noise * truth.numel() ** 0.5)
