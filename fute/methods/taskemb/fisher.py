"""The diagonal Fisher information of a surrogate's parameters on some rows.

What is squared is the gradient of a row's loss (heads.row_losses), what training minimised. For hard labels this is the
empirical Fisher information, as in TaskEmb: the loss is minus the log-likelihood of the label. For probabilities it is
not: the loss is minus the expected log-likelihood under them, and the square of an expected gradient is smaller than
the expected square of each class's gradient, the more so the less sure the probabilities are. It is taken all the same,
for one backward pass does for any number of classes.

Source: Vu et al. 2020 (arXiv 2005.00770), section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fute.errors import MethodError
from fute.methods.taskemb.config import Estimator
from fute.methods.taskemb.coverage import Coverage, LossesOf, add_one_row
from fute.methods.taskemb.row_gradients import Totals, add_row_squares


def fisher_information(
    model: nn.Module,
    coverage: Coverage,
    losses_of: LossesOf,
    batches: Sequence[NDArray[np.intp]],
    estimator: Estimator,
) -> Totals:
    """Diagonal Fisher information, in the shapes of the parameters.

    Memory: one number for each parameter beside the activations of a batch; never a row's gradient of the whole model.

    Args:
        batches: the rows, as they are read together. They matter to the estimator `batch` alone.
        estimator: per_example: the mean over rows of the squared gradient; batch: the mean over batches of the squared
            gradient of a batch's mean loss, as in TaskEmb's own code; mean: the square of the mean gradient, as in
            FUTE's released code.

    Returns:
        Parameter name -> values >= 0, for all parameters that the loss depends on.

    Raises:
        MethodError: a parameter got no gradient, the information is not finite or all zero.
    """
    if estimator == "per_example":
        totals = _per_example(model, coverage, losses_of, batches)
    else:
        totals = _summed(model, coverage, losses_of, batches, estimator == "batch")
    if not all(bool(torch.isfinite(total).all()) for total in totals.values()):
        raise MethodError("the Fisher information holds NaN or infinity; lower the learning rate")
    if not any(bool(total.any()) for total in totals.values()):
        raise MethodError("the Fisher information is zero: training left the head as it was; raise the learning rates")
    return totals


def _per_example(
    model: nn.Module, coverage: Coverage, losses_of: LossesOf, batches: Sequence[NDArray[np.intp]]
) -> Totals:
    totals: Totals = {}
    hooked = frozenset(coverage.hooked)
    for rows in batches:
        got = add_row_squares(model, partial(losses_of, rows), len(rows), totals, hooked)
        for row in rows if coverage.one_by_one else ():
            got |= add_one_row(model, coverage.one_by_one, losses_of, row, totals)
        if missing := [name for name in coverage.used if name not in got]:
            raise MethodError(f"{len(missing)} parameters got no gradient, {missing[0]} for one; report this surrogate")
    n_rows = sum(len(rows) for rows in batches)
    return {name: totals[name].div_(n_rows) for name in coverage.used}


def _summed(
    model: nn.Module,
    coverage: Coverage,
    losses_of: LossesOf,
    batches: Sequence[NDArray[np.intp]],
    square_each: bool,
) -> Totals:
    parameters = {name: p for name, p in model.named_parameters() if name in coverage.used}
    n_rows = sum(len(rows) for rows in batches)
    totals = {name: torch.zeros_like(p, requires_grad=False) for name, p in parameters.items()}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    for rows in batches:
        losses = losses_of(rows)
        loss = losses.mean() if square_each else losses.sum() / n_rows
        for name, gradient in zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True):
            totals[name].add_(gradient.square() / len(batches) if square_each else gradient)
    return totals if square_each else {name: total.square_() for name, total in totals.items()}
